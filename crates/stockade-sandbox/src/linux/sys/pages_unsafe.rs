//! Pages of the program's own file.
#![expect(unsafe_code, reason = "dl_iterate_phdr(3) and madvise(2) take raw addresses")]

use std::ops::Range;

/// Lets go of the code and constants that this process has read so far: they are the kernel's copy of
/// a file, and what is used again is mapped again, without a read from the disk while that copy is
/// there.
pub(crate) fn let_go_of_program() {
    // SAFETY: `first` has the type that is asked for and reads no more than it is given.
    unsafe { libc::dl_iterate_phdr(Some(first), std::ptr::null_mut()) };
}

/// For the first object, which is the program itself; the libraries' pages are everybody's.
///
/// # Safety
///
/// To be called by `dl_iterate_phdr(3)` only.
unsafe extern "C" fn first(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader passes a description that lives as long as this call.
    let info = unsafe { &*info };
    // SAFETY: the loader mapped so many headers there, and nobody writes to them.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for range in headers.iter().filter_map(|header| unwritten(header, info.dlpi_addr)) {
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        // SAFETY: whole pages of a segment that is mapped without the right to write, so that they
        // are as in the file: the next access finds the same bytes.
        unsafe { libc::madvise(range.start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
    1
}

/// The whole pages of a segment that neither the loader nor the program writes to: relocation needs
/// the right to write, which is taken away afterwards but stands in the header.
fn unwritten(header: &libc::Elf64_Phdr, base: u64) -> Option<Range<u64>> {
    if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
        return None;
    }
    let page = rustix::param::page_size() as u64;
    let start = base.checked_add(header.p_vaddr)?;
    let end = start.checked_add(header.p_memsz)? / page * page;
    let start = start.checked_next_multiple_of(page)?;
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the mappings of this program that may not be written: what is resident, in KiB.
    fn resident() -> u64 {
        let program = std::env::current_exe().unwrap().canonicalize().unwrap();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut sum, mut counts) = (0, false);
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("Rss:"), Some(size)) if counts => sum += size.parse::<u64>().unwrap(),
                (Some(range), Some(rights)) if range.contains('-') => {
                    counts = rights == "r-xp" && line.ends_with(program.to_str().unwrap());
                }
                _ => {}
            }
        }
        sum
    }

    #[test]
    fn the_program_goes_on_without_the_pages_it_has_read() {
        let before = resident();
        let_go_of_program();
        let after = resident();
        assert!(after < before, "{after} of {before} KiB");
    }

    #[test]
    fn what_is_written_to_is_kept() {
        let header = |p_flags, p_vaddr, p_memsz| libc::Elf64_Phdr {
            p_type: libc::PT_LOAD,
            p_flags,
            p_offset: 0,
            p_vaddr,
            p_paddr: 0,
            p_filesz: p_memsz,
            p_memsz,
            p_align: 4096,
        };
        let page = rustix::param::page_size() as u64;
        let base = 16 * page;
        let of = |flags, start, length| unwritten(&header(flags, start, length), base);
        assert_eq!(of(libc::PF_R | libc::PF_W, 0, 4 * page), None);
        assert_eq!(of(libc::PF_R, 0, 4 * page), Some(base..base + 4 * page));
        let inner = base + page..base + 3 * page;
        assert_eq!(of(libc::PF_R | libc::PF_X, 1, 4 * page - 2), Some(inner), "whole pages only");
        assert_eq!(of(libc::PF_R, 1, page), None);
    }
}
