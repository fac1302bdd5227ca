//! The command line of a machine. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use stockade_guest::{
    PORT_NAME, PROGRAM_DISK, Parameters, REPOSITORY_DISK, SETUP_DISK, SYSTEM_DISK, TRIAL,
};

/// Who carries out the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, through `/dev/kvm`.
    Kvm,
    /// QEMU itself, in software: several times slower.
    Emulation,
}

/// A machine as QEMU is told about it.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// Like the parameters, `None` only for the trial of an accelerator.
    pub(crate) disks: Option<Disks>,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    pub(crate) accelerator: Accelerator,
    pub(crate) parameters: Option<Parameters>,
    /// How fast an emulated guest's counter runs; a KVM guest is told by KVM.
    pub(crate) counter_khz: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Disks {
    pub(crate) system: PathBuf,
    pub(crate) repository: PathBuf,
    pub(crate) setup: Option<PathBuf>,
    pub(crate) program: Option<PathBuf>,
}

/// What of QEMU's own may be called once the machine runs: it may neither start programs nor
/// gain privileges.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// No timers and controllers of a PC that no guest of ours uses. The clock chip stays: a kernel
/// waits twice for a second on one that does not answer.
const MACHINE: &str = "microvm,x-option-roms=off,pit=off,pic=off,rtc=on";

/// Messages of the kernel only when it fails; a machine that fails ends, instead of waiting.
const KERNEL_WORDS: &str =
    "quiet loglevel=3 console=ttyS0 panic=-1 reboot=t random.trust_cpu=on no_timer_check";

/// Its arguments. The channel's socket is its descriptor 0; its console goes to 1.
pub(crate) fn of(machine: &Machine) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut put = |words: &[&str]| out.extend(words.iter().map(OsString::from));
    let (accelerator, cpu) = match machine.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Emulation => ("tcg,thread=multi", "max"),
    };
    put(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-sandbox", SANDBOX]);
    put(&["-name", "stockade", "-M", MACHINE, "-bios", "qboot.rom"]);
    put(&["-accel", accelerator, "-cpu", cpu]);
    put(&["-smp", &machine.cpus.to_string(), "-m", &format!("{}M", machine.memory_mib)]);
    put(&["-chardev", "file,id=console,path=/dev/fd/1", "-serial", "chardev:console"]);
    put(&["-chardev", "socket,id=channel,fd=0"]);
    put(&["-device", "virtio-serial-device,max_ports=2", "-device"]);
    put(&[&format!("virtserialport,chardev=channel,name={PORT_NAME}")]);
    let words = machine.parameters.as_ref().map_or_else(|| TRIAL.to_owned(), Parameters::to_words);
    let counter = machine.counter_khz.map(|khz| format!(" tsc_early_khz={khz}"));
    put(&["-append", &format!("{KERNEL_WORDS}{} {words}", counter.unwrap_or_default())]);
    out.extend(["-kernel".into(), machine.kernel.clone().into()]);
    out.extend(["-initrd".into(), machine.initramfs.clone().into()]);
    if let Some(disks) = &machine.disks {
        disk(&mut out, SYSTEM_DISK, &disks.system, "readonly=on");
        // What a crash of the host would lose is lost with the machine anyway.
        disk(
            &mut out,
            REPOSITORY_DISK,
            &disks.repository,
            "cache=unsafe,discard=unmap,werror=report",
        );
        if let Some(setup) = &disks.setup {
            disk(&mut out, SETUP_DISK, setup, "readonly=on");
        }
        if let Some(program) = &disks.program {
            disk(&mut out, PROGRAM_DISK, program, "readonly=on");
        }
    }
    out
}

fn disk(out: &mut Vec<OsString>, serial: &str, path: &std::path::Path, how: &str) {
    let mut drive = OsString::from(format!("if=none,format=raw,id={serial},{how},file="));
    drive.push(quoted(path));
    let device = format!("virtio-blk-device,drive={serial},serial={serial}");
    out.extend(["-drive".into(), drive, "-device".into(), device.into()]);
}

/// A comma in a value is written twice (qemu(1)).
fn quoted(path: &std::path::Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    let twice = |byte: &u8| std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 });
    OsString::from_vec(bytes.iter().flat_map(twice).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn machine(accelerator: Accelerator) -> Machine {
        Machine {
            kernel: "/cache/kernel.elf".into(),
            initramfs: "/cache/initramfs.cpio".into(),
            disks: Some(Disks {
                system: "/cache/system.erofs".into(),
                repository: "/state/a,b/repository.ext4".into(),
                setup: None,
                program: None,
            }),
            memory_mib: 2048,
            cpus: 2,
            accelerator,
            parameters: Some(Parameters {
                uid: 1000,
                gid: 1000,
                is_root: false,
                gives: false,
                folder: "/work".into(),
                has_setup: false,
                has_program: false,
                clock: Duration::from_secs(5),
            }),
            counter_khz: (accelerator == Accelerator::Emulation).then_some(2_100_000),
        }
    }

    fn text(machine: &Machine) -> String {
        let words = of(machine);
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_machine_is_told_all_of_this_and_nothing_else() {
        insta::assert_snapshot!(text(&machine(Accelerator::Emulation)), @r"
        -nodefaults
        -no-user-config
        -no-reboot
        -display
        none
        -sandbox
        on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
        -name
        stockade
        -M
        microvm,x-option-roms=off,pit=off,pic=off,rtc=on
        -bios
        qboot.rom
        -accel
        tcg,thread=multi
        -cpu
        max
        -smp
        2
        -m
        2048M
        -chardev
        file,id=console,path=/dev/fd/1
        -serial
        chardev:console
        -chardev
        socket,id=channel,fd=0
        -device
        virtio-serial-device,max_ports=2
        -device
        virtserialport,chardev=channel,name=stockade.channel
        -append
        quiet loglevel=3 console=ttyS0 panic=-1 reboot=t random.trust_cpu=on no_timer_check tsc_early_khz=2100000 stockade.uid=1000 stockade.gid=1000 stockade.root=0 stockade.give=0 stockade.folder=2f776f726b stockade.setup=0 stockade.program=0 stockade.clock=5000
        -kernel
        /cache/kernel.elf
        -initrd
        /cache/initramfs.cpio
        -drive
        if=none,format=raw,id=system,readonly=on,file=/cache/system.erofs
        -device
        virtio-blk-device,drive=system,serial=system
        -drive
        if=none,format=raw,id=repository,cache=unsafe,discard=unmap,werror=report,file=/state/a,,b/repository.ext4
        -device
        virtio-blk-device,drive=repository,serial=repository
        ");
    }

    #[test]
    fn no_machine_has_a_network_device() {
        for accelerator in [Accelerator::Kvm, Accelerator::Emulation] {
            let text = text(&machine(accelerator));
            assert!(!text.contains("net") && text.contains("-nodefaults"), "{text}");
        }
    }
}
