//! Which CPUs the server gets and which the load.

use anyhow::{Result, bail};

use crate::os;

/// Options about CPUs.
#[derive(Debug, Clone, clap::Args)]
pub struct CpuArgs {
    /// CPUs for the server [default: the first, as many as it has shards]
    #[arg(long, value_delimiter = ',')]
    pub server_cpus: Vec<usize>,
    /// CPUs for the load [default: the others; all, where none would be left]
    #[arg(long, value_delimiter = ',')]
    pub load_cpus: Vec<usize>,
}

/// Server and load, apart where the machine is large enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub server: Vec<usize>,
    pub load: Vec<usize>,
}

impl CpuArgs {
    /// For a server of `shards` threads.
    pub fn split(&self, shards: usize) -> Result<Split> {
        split(
            &os::usable_cpus()?,
            &self.server_cpus,
            &self.load_cpus,
            shards,
        )
    }
}

fn split(usable: &[usize], server: &[usize], load: &[usize], shards: usize) -> Result<Split> {
    for cpu in server.iter().chain(load) {
        if !usable.contains(cpu) {
            bail!("CPU {cpu} may not be used; usable are {usable:?}");
        }
    }
    let mut server = server.to_vec();
    if server.is_empty() {
        server = usable
            .iter()
            .filter(|c| !load.contains(c))
            .take(shards)
            .copied()
            .collect();
    }
    if server.is_empty() {
        server = usable.iter().take(shards).copied().collect();
    }
    let mut load = load.to_vec();
    if load.is_empty() {
        load = usable
            .iter()
            .filter(|c| !server.contains(c))
            .copied()
            .collect();
    }
    if load.is_empty() {
        load = usable.to_vec();
    }
    Ok(Split { server, load })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apart_where_possible() {
        let both = |server: &[usize], load: &[usize]| Split {
            server: server.to_vec(),
            load: load.to_vec(),
        };
        assert_eq!(split(&[0, 1], &[], &[], 1).unwrap(), both(&[0], &[1]));
        assert_eq!(split(&[0, 1], &[], &[], 2).unwrap(), both(&[0, 1], &[0, 1]));
        assert_eq!(
            split(&[0, 1, 2, 3], &[], &[], 2).unwrap(),
            both(&[0, 1], &[2, 3])
        );
        assert_eq!(split(&[0, 1], &[1], &[], 1).unwrap(), both(&[1], &[0]));
        assert_eq!(
            split(&[0, 1, 2], &[], &[0], 2).unwrap(),
            both(&[1, 2], &[0])
        );
        assert_eq!(split(&[5], &[], &[], 1).unwrap(), both(&[5], &[5]));
        assert!(split(&[0], &[1], &[], 1).is_err());
    }
}
