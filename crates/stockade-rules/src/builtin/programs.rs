//! Programs that only read, and what they may be told for that: data.

/// Whatever they are told, these only read.
#[rustfmt::skip]
pub(super) const READERS: &[&str] = &[
    "[", "arch", "b2sum", "base32", "base64", "basename", "cat", "cksum", "cmp", "column", "comm",
    "cut", "df", "dirname", "du", "echo", "egrep", "expand", "expr", "factor", "false", "fgrep",
    "fmt", "fold", "free", "getconf", "grep", "groups", "hd", "head", "hexdump", "hostid", "id",
    "join", "jq", "locale", "ls", "lsblk", "lscpu", "md5sum", "netstat", "nl", "nproc", "numfmt",
    "od", "paste", "pgrep", "pidof", "printenv", "printf", "ps", "pwd", "readlink", "realpath",
    "rev", "seq", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum", "sleep", "stat",
    "strings", "sum", "tac", "tail", "test", "tput", "tr", "true", "tsort", "tty", "uname",
    "unexpand", "uptime", "wc", "whereis", "which", "whoami", "yes", "zipinfo",
    // Builtins that leave files and programs alone.
    ":", "break", "cd", "chdir", "continue", "declare", "dirs", "exit", "export", "getopts",
    "hash", "help", "jobs", "local", "mapfile", "popd", "pushd", "read", "readarray", "readonly",
    "return", "set", "shift", "shopt", "times", "trap", "type", "typeset", "ulimit", "umask", "unset", "wait",
];

/// Programs that only read when they are told no more than this.
pub(super) struct Reader {
    pub(super) program: &'static str,
    /// The words behind the program, for programs that are many.
    pub(super) verbs: &'static [&'static str],
    /// Options; a value may be attached to a long one with `=`. One-letter options may be joined.
    /// `-#` stands for a number.
    pub(super) options: &'static [&'static str],
    /// Options whose value is attached or the next word; among the options as well, when it
    /// is attached or none.
    pub(super) values: &'static [&'static str],
    /// Of these options one has to be there; without it the program does something else.
    pub(super) needs: &'static [&'static str],
    /// How many other words there may be.
    pub(super) operands: usize,
}

pub(super) const ANY: usize = usize::MAX;

const fn reader(
    program: &'static str,
    options: &'static [&'static str],
    values: &'static [&'static str],
) -> Reader {
    Reader { program, verbs: &[], options, values, needs: &[], operands: ANY }
}

/// What takes a value differs from verb to verb: `git grep -nO` is `-n -O`, which starts a pager.
const fn git(
    verbs: &'static [&'static str],
    options: &'static [&'static str],
    values: &'static [&'static str],
) -> Reader {
    Reader { verbs, ..reader("git", options, values) }
}

/// What shows commits and differences.
const fn git_log(verbs: &'static [&'static str]) -> Reader {
    const VALUES: &[&str] = &[
        "-n",
        "-U",
        "-S",
        "-G",
        "-L",
        "--max-count",
        "--skip",
        "--since",
        "--until",
        "--after",
        "--before",
        "--author",
        "--committer",
        "--grep",
    ];
    git(verbs, LOG, VALUES)
}

#[rustfmt::skip]
const LOG: &[&str] = &[
    "-#", "-p", "-s", "-w", "-b", "-i", "-E", "-F", "-M", "-C", "-R", "-W", "-z", "-r", "-t", "-m", "-c",
    "--oneline", "--stat", "--shortstat", "--numstat", "--name-only", "--name-status", "--summary",
    "--dirstat", "--compact-summary", "--raw", "--patch", "--no-patch", "--patch-with-stat", "--graph",
    "--all", "--branches", "--tags", "--remotes", "--decorate", "--no-decorate", "--pretty", "--format",
    "--abbrev", "--abbrev-commit", "--no-abbrev", "--full-index", "--reverse", "--follow", "--merges",
    "--no-merges", "--first-parent", "--left-right", "--cherry-pick", "--cherry-mark", "--topo-order",
    "--date-order", "--author-date-order", "--cached", "--staged", "--merge-base", "--no-index", "--word-diff",
    "--color-words", "--color", "--no-color", "--unified", "--function-context", "--check", "--quiet",
    "--exit-code", "--date", "--relative", "--relative-date", "--text", "--no-ext-diff", "--no-textconv",
    "--no-renames", "--find-renames", "--find-copies", "--diff-filter", "--pickaxe-regex", "--pickaxe-all",
    "--minimal", "--patience", "--histogram", "--ignore-all-space", "--ignore-space-change",
    "--ignore-space-at-eol", "--ignore-blank-lines", "--no-commit-id", "--root", "--all-match",
    "--invert-grep", "--walk-reflogs", "--no-prefix", "--full-history", "--simplify-by-decoration",
];

/// With each of these `git branch` and `git tag` list. `git branch -l` made one once.
#[rustfmt::skip]
const CHOOSES: &[&str] =
    &["--list", "--contains", "--no-contains", "--merged", "--no-merged", "--points-at"];

#[rustfmt::skip]
pub(super) const SOME: &[Reader] = &[
    Reader { operands: 0, ..reader("date", &["-u", "-R", "-I", "--utc", "--iso-8601"], &["-d", "--date"]) },
    reader("diff", &["-u", "-r", "-N", "-q", "-a", "-i", "-b", "-w", "-B", "-E", "-y", "-s", "--brief", "--unified", "--recursive", "--color",
        "--side-by-side", "--suppress-common-lines", "--ignore-all-space", "--new-file", "--exclude"], &["-U", "-x"]),
    Reader { operands: 0, ..reader("env", &[], &[]) },
    Reader { operands: 0, ..reader("exec", &[], &[]) },
    reader("command", &["-v", "-V"], &[]),
    reader("fd", &["-H", "-I", "-a", "-s", "-i", "-g", "-F", "-L", "-p", "-0", "-u", "-1", "--hidden", "--no-ignore", "--glob",
        "--full-path", "--absolute-path", "--fixed-strings", "--unrestricted"],
        &["-t", "-e", "-d", "-E", "--type", "--extension", "--max-depth", "--min-depth", "--exclude", "--changed-within"]),
    reader("file", &["-b", "-i", "-L", "-h", "--brief", "--mime", "--mime-type"], &[]),
    Reader { needs: &["-c", "-l", "-t"], ..reader("gunzip", &["-c", "-d", "-k", "-l", "-t", "-v"], &[]) },
    Reader { needs: &["-c", "-l", "-t"], ..reader("gzip", &["-c", "-d", "-k", "-l", "-t", "-v"], &[]) },
    Reader { operands: 0, ..reader("history", &[], &[]) },
    Reader { operands: 0, ..reader("hostname", &["-f", "-s", "-i", "-I"], &[]) },
    reader("lsof", &["-i", "-l", "-n", "-P", "-t"], &["-c", "-i", "-p", "-s", "-u"]),
    reader("nm", &["-a", "-A", "-C", "-D", "-g", "-n", "-S", "-u", "--demangle", "--dynamic", "--defined-only"], &[]),
    reader("objdump", &["-C", "-d", "-D", "-f", "-h", "-p", "-r", "-s", "-S", "-t", "-T", "-x", "--demangle"], &["-j", "-M"]),
    reader("readelf", &["-a", "-d", "-h", "-l", "-n", "-r", "-s", "-S", "-V", "-W"], &[]),
    // It decompresses by programs of its own choice, but `--pre` and `--hostname-bin` name one.
    reader("rg", &["-n", "-i", "-l", "-c", "-w", "-o", "-v", "-F", "-S", "-s", "-u", "-x", "-q", "-a", "-p", "-U", "-H", "-I", "-L", "-N", "-0", "-P",
        "--files", "--hidden", "--no-ignore", "--no-ignore-vcs", "--line-number", "--no-line-number", "--ignore-case", "--smart-case",
        "--case-sensitive", "--files-with-matches", "--files-without-match", "--count", "--count-matches", "--word-regexp",
        "--line-regexp", "--fixed-strings", "--invert-match", "--only-matching", "--no-heading", "--heading", "--json", "--vimgrep",
        "--column", "--multiline", "--multiline-dotall", "--no-messages", "--no-filename", "--with-filename", "--stats", "--pcre2", "--null",
        "--trim", "--follow", "--quiet", "--text", "--unrestricted", "--pretty", "--passthru", "--type-list", "--no-config"],
        &["-g", "-t", "-T", "-A", "-B", "-C", "-m", "-M", "-e", "-d", "-E", "-r", "-f", "-j", "--glob", "--iglob", "--type", "--type-not",
        "--regexp", "--max-count", "--max-depth", "--max-columns", "--context", "--after-context", "--before-context", "--sort", "--sortr",
        "--color", "--colors", "--replace", "--file", "--threads", "--encoding", "--max-filesize"]),
    reader("sort", &["-b", "-d", "-f", "-g", "-h", "-i", "-M", "-n", "-R", "-r", "-u", "-V", "-s", "-z", "-c", "--reverse", "--unique",
        "--numeric-sort", "--human-numeric-sort", "--version-sort", "--general-numeric-sort", "--ignore-case", "--stable"],
        &["-k", "-t", "--key", "--field-separator"]),
    // `-K` ends connections, `-D` writes a file.
    reader("ss", &["-4", "-6", "-a", "-e", "-H", "-i", "-l", "-m", "-n", "-o", "-p", "-s", "-t", "-u", "-x"], &[]),
    Reader { operands: 0, needs: &["-b"], ..reader("top", &["-b", "-c", "-H", "-i"], &["-d", "-n", "-o", "-p", "-u"]) },
    // It reads on in the same word behind `-L`: `-Lo 1 x` writes `x`, and so does `-R`.
    reader("tree", &["-a", "-d", "-f", "-l", "-s", "-h", "-p", "-u", "-g", "-D", "-n", "-F", "-C", "-L", "-I", "-P", "--dirsfirst", "--noreport",
        "--gitignore", "--prune", "--du", "--si"], &[]),
    Reader { operands: 1, ..reader("uniq", &["-c", "-d", "-i", "-u"], &["-f", "-s", "-w"]) },
    Reader { needs: &["-l", "-p", "-v"], ..reader("unzip", &["-l", "-p", "-q", "-v"], &[]) },
    // A second file is written, and letters are not joined: `-pl 64 a` is `-p 64 a`.
    Reader { operands: 1, ..reader("xxd", &["-b", "-e", "-i", "-p", "-u"], &[]) },
    reader("zcat", &["-f", "-v"], &[]),
    git(&["blame"], &["-w", "-s", "-e", "-M", "-C", "--date", "--porcelain", "--line-porcelain", "--show-email"], &["-L"]),
    git(&["cat-file"], &["-p", "-t", "-s", "-e"], &[]),
    Reader { operands: 0, ..git(&["branch"], &["-a", "-r", "-v", "--all", "--remotes", "--list", "--show-current", "--sort", "--format", "--color", "--no-color", "--verbose"], &[]) },
    Reader { needs: CHOOSES, ..git(&["branch"], &["-a", "-r", "-v", "-i", "--all", "--remotes", "--list", "--contains", "--no-contains", "--merged",
        "--no-merged", "--points-at", "--sort", "--format", "--color", "--no-color", "--verbose"], &[]) },
    git(&["check-ignore"], &["-v", "-n", "-q", "-z", "--no-index", "--verbose", "--non-matching"], &[]),
    git(&["cherry"], &["-v"], &[]),
    Reader { needs: &["-l", "--list", "--get", "--get-all", "--get-regexp", "--get-urlmatch"], ..git(&["config"],
        &["-l", "-z", "--list", "--get", "--get-all", "--get-regexp", "--get-urlmatch", "--global", "--local", "--system", "--worktree", "--name-only",
        "--show-origin", "--show-scope", "--bool", "--int", "--path", "--type", "--includes"], &[]) },
    git(&["config", "get"], &["--all", "--regexp", "--global", "--local", "--system", "--show-origin", "--show-scope", "--type"], &[]),
    git(&["config", "list"], &["--global", "--local", "--system", "--name-only", "--show-origin", "--show-scope"], &[]),
    Reader { operands: 0, ..git(&["count-objects"], &["-v", "-H"], &[]) },
    git(&["describe"], &["--tags", "--always", "--dirty", "--long", "--all", "--abbrev", "--match", "--exact-match", "--contains"], &[]),
    git_log(&["diff"]),
    git_log(&["diff-tree"]),
    git(&["for-each-ref"], &["--format", "--sort", "--count", "--contains", "--merged", "--no-merged", "--points-at"], &[]),
    git(&["grep"], &["-n", "-i", "-l", "-L", "-w", "-c", "-v", "-h", "-H", "-F", "-E", "-P", "-q", "-z", "-I", "-o", "-p", "-W", "--cached", "--untracked",
        "--line-number", "--ignore-case", "--name-only", "--files-with-matches", "--count", "--heading", "--break", "--fixed-strings",
        "--extended-regexp", "--perl-regexp", "--word-regexp", "--function-context", "--show-function", "--all-match", "--and", "--or", "--not", "--color", "--no-color"],
        &["-A", "-B", "-C", "-e", "-m"]),
    git_log(&["log"]),
    git(&["ls-files"], &["-c", "-d", "-m", "-o", "-s", "-u", "-v", "-z", "--others", "--exclude-standard", "--cached", "--modified", "--deleted", "--stage",
        "--unmerged", "--ignored", "--error-unmatch", "--full-name", "--directory", "--eol"], &[]),
    git(&["ls-tree"], &["-r", "-d", "-t", "-l", "-z", "--name-only", "--full-tree", "--full-name", "--abbrev"], &[]),
    Reader { operands: 0, ..git(&["remote"], &["-v", "--verbose"], &[]) },
    git(&["remote", "get-url"], &["--all", "--push"], &[]),
    git(&["merge-base"], &["--is-ancestor", "--fork-point", "--all"], &[]),
    git(&["name-rev"], &["--name-only", "--tags", "--refs", "--always"], &[]),
    Reader { operands: 0, ..git_log(&["reflog"]) },
    git_log(&["reflog", "show"]),
    git(&["show-ref"], &["--heads", "--tags", "--verify", "-s", "-q"], &[]),
    git(&["rev-list"], &["-#", "--count", "--all", "--reverse", "--left-right", "--cherry-pick", "--merges", "--no-merges", "--first-parent", "--objects",
        "--max-parents", "--min-parents", "--branches", "--tags", "--remotes", "--abbrev-commit", "--oneline"],
        &["-n", "--max-count", "--skip", "--since", "--until", "--after", "--before", "--author", "--grep"]),
    git(&["rev-parse"], &["--abbrev-ref", "--short", "--verify", "--show-toplevel", "--show-prefix", "--show-cdup", "--git-dir", "--git-common-dir",
        "--absolute-git-dir", "--git-path", "--is-inside-work-tree", "--is-bare-repository", "--is-inside-git-dir", "--is-shallow-repository",
        "--symbolic-full-name", "--quiet", "-q", "--all", "--branches", "--tags"], &[]),
    git(&["shortlog"], &["-s", "-n", "-e", "--summary", "--numbered", "--email", "--no-merges", "--all"], &["--since", "--until"]),
    git_log(&["show"]),
    git_log(&["stash", "list"]),
    git_log(&["stash", "show"]),
    git(&["status"], &["-s", "-b", "-u", "-v", "-z", "--short", "--branch", "--long", "--porcelain", "--untracked-files", "--ignored", "--show-stash",
        "--ahead-behind", "--no-ahead-behind", "--renames", "--no-renames", "--verbose"], &["-u"]),
    Reader { operands: 0, ..git(&["submodule"], &[], &[]) },
    git(&["submodule", "status"], &["--cached", "--recursive"], &[]),
    Reader { operands: 1, ..git(&["symbolic-ref"], &["-q", "--quiet", "--short"], &[]) },
    Reader { operands: 0, ..git(&["tag"], &["-l", "-n", "--list", "--sort", "--format", "--column"], &["-n"]) },
    Reader { needs: &["-l"], ..git(&["tag"], &["-i", "-l", "-n", "--sort", "--format", "--column"], &["-n"]) },
    Reader { needs: CHOOSES, ..git(&["tag"], &["-i", "-l", "-n", "--list", "--contains", "--no-contains", "--merged", "--no-merged", "--points-at",
        "--sort", "--format", "--column"], &["-n"]) },
    Reader { operands: 0, ..git(&["worktree", "list"], &["-v", "-z", "--porcelain"], &[]) },
];

/// Programs that answer one of these with their version, and do nothing else then. `-v` is not
/// for those that read their input all the same; programs of which a file of the project chooses
/// the version, and may name any (`cargo`, `go`, `yarn`), are not here.
#[rustfmt::skip]
pub(super) const VERSIONED: &[(&[&str], &[&str])] = &[
    (&["bash", "clang", "cmake", "deno", "docker", "gcc", "git", "rg", "ruby"], &["--version"]),
    (&["pip", "pip3", "python", "python3", "uv"], &["--version", "-V"]),
    (&["make", "node", "npm", "perl"], &["--version", "-v"]),
    (&["java", "javac"], &["--version", "-version"]),
];

/// What `find` may be told: tests, and actions that print. A test's argument is an operand.
#[rustfmt::skip]
pub(super) const FIND: &[&str] = &[
    "-a", "-amin", "-and", "-atime", "-cmin", "-ctime", "-daystart", "-depth", "-empty", "-executable",
    "-false", "-follow", "-fstype", "-gid", "-group", "-H", "-ilname", "-iname", "-inum", "-ipath", "-iregex",
    "-iwholename", "-L", "-links", "-lname", "-ls", "-maxdepth", "-mindepth", "-mmin", "-mount", "-mtime",
    "-name", "-newer", "-newerct", "-newermt", "-nogroup", "-not", "-nouser", "-o", "-or", "-P", "-path", "-perm",
    "-print", "-print0", "-printf", "-prune", "-quit", "-readable", "-regex", "-regextype", "-samefile", "-size",
    "-true", "-type", "-uid", "-user", "-wholename", "-writable", "-xdev", "-xtype",
];
