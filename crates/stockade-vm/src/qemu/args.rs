//! The command line of a machine. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use stockade_guest::{PORT_NAME, PROGRAM_DISK, REPOSITORY_DISK, SETUP_DISK, SYSTEM_DISK, TRIAL};

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
    /// `None` only for the trial of an accelerator.
    pub(crate) disks: Option<Disks>,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    pub(crate) accelerator: Accelerator,
    /// How fast an emulated guest's counter runs; a KVM guest is told by KVM.
    pub(crate) counter_khz: Option<u64>,
    /// What its descriptor 0 is for.
    pub(crate) origin: Origin,
}

/// How a machine begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// By a boot.
    Boot,
    /// By a boot, after which its state is saved: a monitor is at its descriptor 0.
    Template,
    /// With the state at its descriptor 0.
    State,
}

/// All of them are there in every machine, since a state fits machines with the same devices only; what is
/// `None` has nothing on it.
#[derive(Debug, Clone)]
pub(crate) struct Disks {
    pub(crate) system: PathBuf,
    pub(crate) repository: Option<PathBuf>,
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

/// A disk with nothing on it: zeros, and of this size since one of none is refused.
const NOTHING: &str = "driver=null-co,read-zeroes=on,size=1M";

/// Its arguments. Descriptor 0 is of its [`Origin`]; the channel's socket is 1; its console goes to 2.
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
    put(&["-chardev", "file,id=console,path=/dev/fd/2", "-serial", "chardev:console"]);
    put(&["-chardev", "socket,id=channel,fd=1"]);
    put(&["-device", "virtio-serial-device,max_ports=2", "-device"]);
    put(&[&format!("virtserialport,chardev=channel,name={PORT_NAME}")]);
    let trial = if machine.disks.is_none() { format!(" {TRIAL}") } else { String::new() };
    let counter = machine.counter_khz.map(|khz| format!(" tsc_early_khz={khz}"));
    put(&["-append", &format!("{KERNEL_WORDS}{}{trial}", counter.unwrap_or_default())]);
    match machine.origin {
        Origin::Boot => {}
        Origin::Template => {
            put(&["-chardev", "socket,id=monitor,fd=0", "-mon", "chardev=monitor,mode=control"]);
        }
        Origin::State => put(&["-incoming", "fd:0"]),
    }
    out.extend(["-kernel".into(), machine.kernel.clone().into()]);
    out.extend(["-initrd".into(), machine.initramfs.clone().into()]);
    if let Some(disks) = &machine.disks {
        disk(&mut out, SYSTEM_DISK, Some(&disks.system), "readonly=on");
        // What a crash of the host would lose is lost with the machine anyway.
        let how = "cache=unsafe,discard=unmap,werror=report";
        disk(&mut out, REPOSITORY_DISK, disks.repository.as_ref(), how);
        disk(&mut out, SETUP_DISK, disks.setup.as_ref(), "readonly=on");
        disk(&mut out, PROGRAM_DISK, disks.program.as_ref(), "readonly=on");
    }
    out
}

fn disk(out: &mut Vec<OsString>, serial: &str, path: Option<&PathBuf>, how: &str) {
    let mut drive = OsString::from(format!("if=none,id={serial},{how},"));
    match path {
        Some(path) => {
            drive.push("format=raw,file=");
            drive.push(quoted(path));
        }
        None => drive.push(NOTHING),
    }
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
    use super::*;

    fn machine(accelerator: Accelerator, origin: Origin) -> Machine {
        let repository = Some("/state/a,b/repository.ext4".into());
        Machine {
            kernel: "/cache/kernel.elf".into(),
            initramfs: "/cache/initramfs.cpio".into(),
            disks: Some(Disks {
                system: "/cache/system.erofs".into(),
                repository: repository.filter(|_| origin != Origin::Template),
                setup: None,
                program: None,
            }),
            memory_mib: 2048,
            cpus: 2,
            accelerator,
            counter_khz: (accelerator == Accelerator::Emulation).then_some(2_100_000),
            origin,
        }
    }

    fn text(machine: &Machine) -> String {
        let words = of(machine);
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_machine_is_told_all_of_this_and_nothing_else() {
        insta::assert_snapshot!(text(&machine(Accelerator::Emulation, Origin::State)), @r"
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
        file,id=console,path=/dev/fd/2
        -serial
        chardev:console
        -chardev
        socket,id=channel,fd=1
        -device
        virtio-serial-device,max_ports=2
        -device
        virtserialport,chardev=channel,name=stockade.channel
        -append
        quiet loglevel=3 console=ttyS0 panic=-1 reboot=t random.trust_cpu=on no_timer_check tsc_early_khz=2100000
        -incoming
        fd:0
        -kernel
        /cache/kernel.elf
        -initrd
        /cache/initramfs.cpio
        -drive
        if=none,id=system,readonly=on,format=raw,file=/cache/system.erofs
        -device
        virtio-blk-device,drive=system,serial=system
        -drive
        if=none,id=repository,cache=unsafe,discard=unmap,werror=report,format=raw,file=/state/a,,b/repository.ext4
        -device
        virtio-blk-device,drive=repository,serial=repository
        -drive
        if=none,id=setup,readonly=on,driver=null-co,read-zeroes=on,size=1M
        -device
        virtio-blk-device,drive=setup,serial=setup
        -drive
        if=none,id=program,readonly=on,driver=null-co,read-zeroes=on,size=1M
        -device
        virtio-blk-device,drive=program,serial=program
        ");
    }

    #[test]
    fn a_template_has_the_same_devices_and_nothing_of_a_thread() {
        let devices = |origin| {
            let words = of(&machine(Accelerator::Emulation, origin));
            let is_device = |pair: &[OsString]| pair.first().is_some_and(|word| word == "-device");
            words.windows(2).filter(|pair| is_device(pair)).map(<[_]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(devices(Origin::Template), devices(Origin::State));
        assert_eq!(devices(Origin::Template), devices(Origin::Boot));
        let template = text(&machine(Accelerator::Emulation, Origin::Template));
        assert!(!template.contains("/state"), "{template}");
        // Only there can QEMU be told anything.
        assert!(template.contains("-mon"));
        for origin in [Origin::Boot, Origin::State] {
            assert!(!text(&machine(Accelerator::Kvm, origin)).contains("-mon"));
        }
    }

    #[test]
    fn no_machine_has_a_network_device() {
        for accelerator in [Accelerator::Kvm, Accelerator::Emulation] {
            for origin in [Origin::Boot, Origin::Template, Origin::State] {
                let text = text(&machine(accelerator, origin));
                assert!(!text.contains("net") && text.contains("-nodefaults"), "{text}");
            }
        }
    }
}
