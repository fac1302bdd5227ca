//! `stockade doctor`: tries each mechanism for real, and says what is lost without it.

use std::path::Path;

use clap::Args;
use stockade_sandbox::Probe;

use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Tries them; 1 when something is lost.
pub(crate) fn run(arguments: &DoctorArgs) -> Result<u8, Failure> {
    let mut probes = stockade_sandbox::probe().map_err(|error| {
        Failure::new(format!("cannot try anything here: {error}"), "").with_status(1)
    })?;
    probes.push(qemu());
    probes.push(kvm());
    if arguments.json {
        let list: Vec<_> = probes.iter().map(object).collect();
        ui::json(&list).map_err(|error| unprinted(&error))?;
    } else {
        probes.iter().try_for_each(show).map_err(|error| unprinted(&error))?;
    }
    Ok(u8::from(probes.iter().any(|probe| probe.result.is_err())))
}

fn qemu() -> Probe {
    let name = format!("qemu-system-{}", std::env::consts::ARCH);
    let folders = ["/usr/bin", "/usr/local/bin", "/usr/libexec"];
    let found = folders.iter().map(|folder| Path::new(folder).join(&name)).find(|it| it.exists());
    Probe {
        name: "qemu",
        result: found
            .map(|path| path.display().to_string())
            .ok_or_else(|| format!("`{name}` is not installed")),
        lost: "`stockade cloud`",
        remedy: "install QEMU's system emulator (`apt install qemu-system-x86`)",
    }
}

/// Whether it starts a machine, `stockade cloud` finds out by a boot.
fn kvm() -> Probe {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    Probe {
        name: "kvm",
        result: opened
            .map(|_| "can be opened; a boot will tell".to_owned())
            .map_err(|error| format!("`/dev/kvm`: {error}")),
        lost: "speed of `stockade cloud`, whose machines are emulated",
        remedy: "`sudo adduser $USER kvm`, or switch on virtualisation in the firmware",
    }
}

fn unprinted(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot print: {error}"), "").with_status(1)
}

fn show(probe: &Probe) -> std::io::Result<()> {
    let text = match &probe.result {
        Ok(detail) if detail.is_empty() => format!("ok    {}", probe.name),
        Ok(detail) => format!("ok    {} ({detail})", probe.name),
        Err(error) => format!(
            "LOST  {}: {error}\n      without it: {}\n      remedy: {}",
            probe.name, probe.lost, probe.remedy
        ),
    };
    ui::line(&text)
}

fn object(probe: &Probe) -> serde_json::Value {
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
    })
}
