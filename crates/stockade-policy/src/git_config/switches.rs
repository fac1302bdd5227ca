//! Switches: keys that say how git does something, in values of a closed form.
//!
//! None names a program, a file, an address or a repository, none turns off a check that protects
//! the user (`fsck`, `protect*`, signatures), and none hides files or changes from `git status`
//! (`trustctime`, `checkStat`). So a run may set them in the user's own repositories, too.

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As `git_parse_maybe_bool` of git takes it, or nothing.
    Bool,
    /// Digits, and a unit of git's behind them.
    Number,
    /// `Bool`, or one of these.
    Or(&'static [&'static str]),
}
use Form::{Bool, Number, Or};

const COLOR: Form = Or(&["auto", "always", "never"]);
const COLUMN: Form = Or(&["auto", "always", "never", "column", "row", "plain"]);
const ALGORITHM: Form = Or(&["myers", "minimal", "patience", "histogram", "default"]);

/// `section.key`, in lower case.
const SWITCHES: [(&str, Form); 136] = [
    ("blame.coloring", Or(&["repeatedlines", "highlightrecent", "none"])),
    ("branch.autosetupmerge", Or(&["always", "inherit", "simple"])),
    ("branch.autosetuprebase", Or(&["never", "local", "remote", "always"])),
    ("checkout.guess", Bool),
    ("checkout.workers", Number),
    ("color.branch", COLOR),
    ("color.diff", COLOR),
    ("color.grep", COLOR),
    ("color.interactive", COLOR),
    ("color.showbranch", COLOR),
    ("color.status", COLOR),
    ("color.ui", COLOR),
    ("column.branch", COLUMN),
    ("column.clean", COLUMN),
    ("column.status", COLUMN),
    ("column.tag", COLUMN),
    ("column.ui", COLUMN),
    ("commit.cleanup", Or(&["strip", "whitespace", "verbatim", "scissors", "default"])),
    ("commit.status", Bool),
    ("commit.verbose", Or(&["0", "1", "2"])),
    ("core.abbrev", Number),
    ("core.autocrlf", Or(&["input"])),
    ("core.bigfilethreshold", Number),
    ("core.commitgraph", Bool),
    ("core.compression", Number),
    ("core.deltabasecachelimit", Number),
    ("core.eol", Or(&["lf", "crlf", "native"])),
    ("core.filemode", Bool),
    ("core.fscache", Bool),
    ("core.ignorecase", Bool),
    ("core.logallrefupdates", Or(&["always"])),
    ("core.longpaths", Bool),
    ("core.loosecompression", Number),
    ("core.multipackindex", Bool),
    ("core.packedgitlimit", Number),
    ("core.packedgitwindowsize", Number),
    ("core.precomposeunicode", Bool),
    ("core.preloadindex", Bool),
    ("core.quotepath", Bool),
    ("core.safecrlf", Or(&["warn"])),
    ("core.sparsecheckout", Bool),
    ("core.sparsecheckoutcone", Bool),
    ("core.splitindex", Bool),
    ("core.symlinks", Bool),
    ("core.untrackedcache", Or(&["keep"])),
    ("core.warnambiguousrefs", Bool),
    ("diff.algorithm", ALGORITHM),
    ("diff.colormoved", Or(&["default", "plain", "blocks", "zebra", "dimmed-zebra"])),
    ("diff.context", Number),
    ("diff.indentheuristic", Bool),
    ("diff.interhunkcontext", Number),
    ("diff.mnemonicprefix", Bool),
    ("diff.noprefix", Bool),
    ("diff.renamelimit", Number),
    ("diff.renames", Or(&["copy", "copies"])),
    ("diff.submodule", Or(&["log", "short", "diff"])),
    ("diff.suppressblankempty", Bool),
    ("extensions.worktreeconfig", Bool),
    ("feature.manyfiles", Bool),
    ("fetch.output", Or(&["full", "compact"])),
    ("fetch.parallel", Number),
    ("fetch.prune", Bool),
    ("fetch.prunetags", Bool),
    ("fetch.unpacklimit", Number),
    ("fetch.writecommitgraph", Bool),
    ("gc.auto", Number),
    ("gc.autodetach", Bool),
    ("grep.column", Bool),
    ("grep.extendedregexp", Bool),
    ("grep.fullname", Bool),
    ("grep.linenumber", Bool),
    ("grep.patterntype", Or(&["default", "basic", "extended", "fixed", "perl"])),
    ("http.postbuffer", Number),
    ("index.sparse", Bool),
    ("index.threads", Or(&["0", "1", "2", "4", "8"])),
    ("index.version", Number),
    ("log.abbrevcommit", Bool),
    (
        "log.date",
        Or(&[
            "relative",
            "local",
            "iso",
            "iso8601",
            "iso-strict",
            "rfc",
            "rfc2822",
            "short",
            "raw",
            "human",
            "unix",
            "default",
        ]),
    ),
    ("log.decorate", Or(&["short", "full", "auto", "no"])),
    ("log.follow", Bool),
    ("log.mailmap", Bool),
    ("log.showroot", Bool),
    ("maintenance.auto", Bool),
    ("merge.branchdesc", Bool),
    ("merge.conflictstyle", Or(&["merge", "diff3", "zdiff3"])),
    ("merge.directoryrenames", Or(&["conflict"])),
    ("merge.ff", Or(&["only"])),
    ("merge.log", Or(&["10", "20", "50", "100"])),
    ("merge.renamelimit", Number),
    ("merge.renames", Bool),
    ("merge.stat", Bool),
    ("merge.verbosity", Number),
    ("pack.compression", Number),
    ("pack.deltacachelimit", Number),
    ("pack.deltacachesize", Number),
    ("pack.depth", Number),
    ("pack.indexversion", Number),
    ("pack.packsizelimit", Number),
    ("pack.threads", Number),
    ("pack.usebitmaps", Bool),
    ("pack.window", Number),
    ("pack.windowmemory", Number),
    ("pack.writereverseindex", Bool),
    ("pull.ff", Or(&["only"])),
    ("pull.rebase", Or(&["merges", "m", "interactive", "i"])),
    ("push.autosetupremote", Bool),
    ("push.default", Or(&["nothing", "current", "upstream", "tracking", "simple", "matching"])),
    ("push.followtags", Bool),
    ("rebase.abbreviatecommands", Bool),
    ("rebase.autosquash", Bool),
    ("rebase.autostash", Bool),
    ("rebase.forkpoint", Bool),
    ("rebase.missingcommitscheck", Or(&["ignore", "warn", "error"])),
    ("rebase.reschedulefailedexec", Bool),
    ("rebase.stat", Bool),
    ("rebase.updaterefs", Bool),
    ("repack.usedeltabaseoffset", Bool),
    ("repack.writebitmaps", Bool),
    ("rerere.autoupdate", Bool),
    ("rerere.enabled", Bool),
    ("revert.reference", Bool),
    ("stash.showincludeuntracked", Bool),
    ("stash.showpatch", Bool),
    ("stash.showstat", Bool),
    ("status.aheadbehind", Bool),
    ("status.branch", Bool),
    ("status.relativepaths", Bool),
    ("status.renamelimit", Number),
    ("status.renames", Or(&["copy", "copies"])),
    ("status.short", Bool),
    ("status.showstash", Bool),
    ("submodule.fetchjobs", Number),
    ("submodule.recurse", Bool),
    ("tag.sort", Or(&["version:refname", "-version:refname", "creatordate", "-creatordate"])),
    ("transfer.unpacklimit", Number),
    ("worktree.guessremote", Bool),
];

/// `advice.*` are all of one form, and only say how much git explains.
pub(super) fn is_switch(section: &str, key: &str) -> bool {
    form(section, key).is_some()
}

/// Whether a switch has a value of its form.
pub(super) fn has_its_form(section: &str, key: &str, value: Option<&[u8]>) -> bool {
    let Some(form) = form(section, key) else { return false };
    let Some(value) = value.map(<[u8]>::to_ascii_lowercase) else {
        return form != Number;
    };
    let is_bool =
        [&b"true"[..], b"false", b"yes", b"no", b"on", b"off", b"1", b"0"].contains(&&*value);
    match form {
        Bool => is_bool,
        Number => {
            let digits = value.strip_prefix(b"-").unwrap_or(&value);
            let mut units = [b"k", b"m", b"g"].into_iter();
            let without = units.find_map(|unit| digits.strip_suffix(unit));
            let digits = without.unwrap_or(digits);
            !digits.is_empty() && digits.len() < 12 && digits.iter().all(u8::is_ascii_digit)
        }
        Or(words) => is_bool || words.iter().any(|word| word.as_bytes() == value),
    }
}

fn form(section: &str, key: &str) -> Option<Form> {
    if section == "advice" {
        return Some(Bool);
    }
    let at = |(name, _): &(&str, Form)| name.split_once('.').cmp(&Some((section, key)));
    let found = SWITCHES.binary_search_by(at).ok()?;
    SWITCHES.get(found).map(|(_, form)| *form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_each_is_found() {
        assert!(SWITCHES.is_sorted_by_key(|(name, _)| name.split_once('.')), "sorted");
        for (name, _) in SWITCHES {
            let (section, key) = name.split_once('.').unwrap();
            assert!(is_switch(section, key), "{name}");
        }
        for name in [
            "core.fsmonitor",
            "core.editor",
            "core.bare",
            "core.worktree",
            "core.trustctime",
            "core.checkstat",
            "pull.x",
        ] {
            let (section, key) = name.split_once('.').unwrap();
            assert!(!is_switch(section, key), "{name}");
        }
    }

    #[test]
    fn a_value_has_the_form_of_its_key_or_is_refused() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str, Option<&str>, bool)] = &[
            ("pull", "rebase", Some("true"), true),
            ("pull", "rebase", Some("Merges"), true),
            ("pull", "rebase", None, true),
            ("pull", "rebase", Some("!touch x"), false),
            ("core", "abbrev", Some("12"), true),
            ("core", "compression", Some("-1"), true),
            ("http", "postbuffer", Some("524288000"), true),
            ("core", "bigfilethreshold", Some("512m"), true),
            ("core", "abbrev", Some("-"), false),
            ("core", "abbrev", Some("1;x"), false),
            ("core", "abbrev", None, false),
            ("color", "ui", Some("auto"), true),
            ("color", "pager", Some("true"), false),
            ("advice", "detachedhead", Some("false"), true),
            ("advice", "detachedhead", Some("x"), false),
        ];
        for &(section, key, value, expected) in CASES {
            let given = value.map(str::as_bytes);
            assert_eq!(has_its_form(section, key, given), expected, "{section}.{key} {value:?}");
        }
    }
}
