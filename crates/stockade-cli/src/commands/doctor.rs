//! `stockade doctor`: tries each mechanism for real, and says what is lost without it.

use clap::Args;
use stockade_config::Env;
use stockade_sandbox::Probe;
use stockade_threads::cloud::check::{self, Check};

use super::cloud;
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Boot a machine too, as `stockade cloud` does: some seconds
    #[arg(long)]
    vm: bool,
}

/// One mechanism, or a part of one.
#[derive(Debug)]
struct Row {
    name: &'static str,
    result: Result<String, String>,
    lost: &'static str,
    remedy: String,
    /// Nothing is lost without it that is promised.
    is_optional: bool,
}

impl From<Probe> for Row {
    fn from(Probe { name, result, lost, remedy, is_optional }: Probe) -> Self {
        Self { name, result, lost, remedy: remedy.to_owned(), is_optional }
    }
}

impl From<Check> for Row {
    fn from(Check { name, result, remedy }: Check) -> Self {
        let lost = match name {
            "kvm" => "speed of `stockade cloud`, whose machines are emulated",
            _ => "`stockade cloud`",
        };
        Self { name, result, lost, remedy, is_optional: false }
    }
}

/// Tries them; 1 when something is lost.
pub(crate) fn run(arguments: &DoctorArgs) -> Result<u8, Failure> {
    let probes = stockade_sandbox::probe().map_err(|error| {
        Failure::new(format!("cannot try anything here: {error}"), "").with_status(1)
    })?;
    let env = Env::snapshot().map_err(|error| {
        Failure::new(format!("cannot find the current folder: {error}"), "").with_status(1)
    })?;
    let machine = cloud::built_in(&env).ok();
    let looked = machine.as_ref().map_or_else(|| vec![no_home()], check::look);
    let looked = looked.into_iter().map(Row::from);
    let mut rows: Vec<Row> = probes.into_iter().map(Row::from).chain(looked).collect();
    // Shown before what takes a while.
    let shown = if arguments.json { Ok(()) } else { rows.iter().try_for_each(show) };
    shown.map_err(|error| unprinted(&error))?;
    if let Some(machine) = machine.filter(|_| arguments.vm) {
        let booted: Vec<Row> = check::boot(&machine).into_iter().map(Row::from).collect();
        let shown = if arguments.json { Ok(()) } else { booted.iter().try_for_each(show) };
        shown.map_err(|error| unprinted(&error))?;
        rows.extend(booted);
    }
    if arguments.json {
        let list: Vec<_> = rows.iter().map(object).collect();
        ui::json(&list).map_err(|error| unprinted(&error))?;
    }
    Ok(u8::from(rows.iter().any(|row| row.result.is_err() && !row.is_optional)))
}

/// Without one nothing can be kept for machines.
fn no_home() -> Check {
    let result = Err("no home is known, where their system would lie".to_owned());
    Check { name: "machine", result, remedy: "set `HOME`".to_owned() }
}

fn unprinted(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot print: {error}"), "").with_status(1)
}

fn show(probe: &Row) -> std::io::Result<()> {
    let text = match &probe.result {
        Ok(detail) if detail.is_empty() => format!("ok    {}", probe.name),
        Ok(detail) => format!("ok    {} ({detail})", probe.name),
        Err(error) if probe.is_optional => {
            format!("none  {}: {error}\n      without it: {}", probe.name, probe.lost)
        }
        Err(error) => format!(
            "LOST  {}: {error}\n      without it: {}\n      remedy: {}",
            probe.name, probe.lost, probe.remedy
        ),
    };
    ui::line(&text)
}

fn object(probe: &Row) -> serde_json::Value {
    let (works, detail) = match &probe.result {
        Ok(detail) => (true, detail),
        Err(error) => (false, error),
    };
    serde_json::json!({
        "name": probe.name,
        "works": works,
        "detail": detail,
        "lost": probe.lost,
        "remedy": probe.remedy,
        "optional": probe.is_optional,
    })
}
