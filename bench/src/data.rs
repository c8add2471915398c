//! The data that a run works on: how many keys, how they look and are drawn, how large values are; and its loading.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cluster::{OwnerMap, SlotMap};
use crate::conn::{Client, Greeting, Target};
use crate::keys::{Distribution, KeyPicker, KeyShape};
use crate::load::{self, Bound, Owners, Plan};
use crate::template::{Keys, Mix, Template};
use crate::workload::{Count, Workload};

/// Options about keys and values.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct DataArgs {
    /// Number of different keys
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// Bytes of a key
    #[arg(long, default_value_t = 11)]
    pub key_size: usize,
    /// What keys begin with [default: `key:`, shorter where the digits need the room]
    #[arg(long)]
    pub key_prefix: Option<String>,
    /// Bytes of a value
    #[arg(long, default_value_t = 64)]
    pub value_size: usize,
    /// Draw keys by Zipf's law with this exponent (0.99 is usual) instead of uniformly
    #[arg(long, value_name = "EXPONENT")]
    pub zipf: Option<f64>,
}

/// [`DataArgs`], checked.
#[derive(Debug, Clone)]
pub struct Data {
    pub count: u64,
    pub shape: KeyShape,
    pub value_size: usize,
    pub picker: KeyPicker,
}

impl DataArgs {
    pub fn check(&self) -> Result<Data> {
        let distribution = self.zipf.map_or(Distribution::Uniform, Distribution::Zipf);
        Ok(Data {
            count: self.keys,
            shape: match &self.key_prefix {
                Some(prefix) => KeyShape::new(prefix, self.key_size, self.keys)?,
                None => KeyShape::fitting(self.key_size, self.keys)?,
            },
            value_size: self.value_size,
            picker: KeyPicker::new(distribution, self.keys)?,
        })
    }
}

/// How long a server may take over one administrative command: FLUSHALL of millions of keys takes a while.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Data {
    pub fn template(&self, text: &str) -> Result<Template> {
        Template::parse(text, &self.shape, self.value_size).with_context(|| format!("{text:?}"))
    }

    pub fn random_keys(&self) -> Keys {
        Keys::Pick(self.picker.clone())
    }

    /// The owners of the keys, from a node of a cluster.
    pub fn owners(&self, slots: &SlotMap) -> Result<Owners> {
        Ok(Owners {
            map: Arc::new(OwnerMap::new(slots, &self.shape, self.count)?),
            shape: self.shape.clone(),
            key_count: self.count,
            fixed: None,
        })
    }

    /// Loads what a workload needs. `like` says how to connect; `requests` is the length of the coming run.
    pub fn preload(&self, workload: &Workload, requests: u64, like: &Plan) -> Result<()> {
        for &(count, text) in workload.preload {
            let template = self.template(text)?;
            let count = match count {
                Count::Keys => self.count,
                Count::N(n) => n,
                Count::Requests => requests,
            };
            self.fill(&template, count, like)
                .with_context(|| format!("loading for {}", workload.name))?;
        }
        Ok(())
    }

    /// Runs a template once per key number below `count`, on every node for its own keys.
    pub fn fill(&self, template: &Template, count: u64, like: &Plan) -> Result<()> {
        for (node, target) in like.targets.iter().enumerate() {
            let node = u8::try_from(node)?;
            let mut owners = like.owners.clone().filter(|_| like.targets.len() > 1);
            let mut requests = count;
            if let Some(owners) = &mut owners {
                owners.fixed = Some(node);
                requests = owners.map.count(node);
            }
            let plan = Plan {
                targets: vec![target.clone()],
                owners,
                threads: 1,
                connections: like.connections.min(4),
                pipeline: 64,
                mix: Mix::one(template.clone()),
                keys: Keys::Sequence(Arc::default()),
                rate: None,
                warmup: Duration::ZERO,
                bound: Bound::Requests(requests),
                pid: None,
                ..like.clone()
            };
            let report = load::run(&plan)?;
            if report.errors + report.moved > 0 {
                bail!(
                    "{} of {requests} requests failed: {}",
                    report.errors + report.moved,
                    report.last_error.unwrap_or_default()
                );
            }
        }
        Ok(())
    }
}

/// Empties every node.
pub fn flush(targets: &[Target], greeting: &Greeting) -> Result<()> {
    targets.iter().try_for_each(|target| {
        Client::connect(target, greeting, PATIENCE)?.call(&["FLUSHALL"])?;
        Ok(())
    })
}
