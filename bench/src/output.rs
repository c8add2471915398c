//! What a measuring command leaves: Markdown on standard output, or JSON there or in a file, with what is needed to
//! judge and repeat it (the machine, the command line, the time).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::table::Table;

/// Options about output.
#[derive(Debug, Clone, clap::Args)]
pub struct OutputArgs {
    /// Write JSON to this file as well
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// JSON instead of tables on standard output
    #[arg(long)]
    pub json: bool,
}

/// The output of one command, collected.
pub struct Output<'a> {
    args: &'a OutputArgs,
    name: &'static str,
    text: String,
}

impl<'a> Output<'a> {
    pub fn new(name: &'static str, args: &'a OutputArgs) -> Output<'a> {
        let mut output = Output {
            args,
            name,
            text: String::new(),
        };
        let machine = machine();
        output.note(format!(
            "`ringwood-bench {}` on {} x {}, Linux {}",
            std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            machine["cpus"],
            machine["cpu"].as_str().unwrap_or("?"),
            machine["kernel"].as_str().unwrap_or("?"),
        ));
        output
    }

    /// A paragraph.
    pub fn note(&mut self, text: String) {
        self.text.push_str(&text);
        self.text.push_str("\n\n");
    }

    pub fn table(&mut self, title: &str, table: &Table) {
        if !title.is_empty() {
            self.text.push_str(&format!("### {title}\n\n"));
        }
        self.text.push_str(&format!("{table}\n"));
    }

    /// Prints, and writes the file.
    pub fn finish(self, results: Value) -> Result<()> {
        let all = json!({
            "command": std::env::args().collect::<Vec<_>>(),
            "kind": self.name,
            "unix_time": std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs(),
            "machine": machine(),
            "results": results,
        });
        let text = serde_json::to_string_pretty(&all)? + "\n";
        if let Some(path) = &self.args.out {
            if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
                fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            }
            fs::write(path, &text).with_context(|| path.display().to_string())?;
        }
        print!("{}", if self.args.json { &text } else { &self.text });
        Ok(())
    }
}

fn machine() -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let uname = rustix::system::uname();
    json!({
        "cpu": model,
        "cpus": crate::os::usable_cpus().map(|c| c.len()).unwrap_or(0),
        "kernel": uname.release().to_string_lossy(),
        "load_average": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
    })
}
