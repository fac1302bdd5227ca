//! What everyday tools did to a project is taken back, whatever they did: drawn by lot, in both
//! backends.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::undo::{Seen, differences, stockade, tree};
use super::{Home, also_as_ordinary_user, text};

/// Tools on few names, so that they meet. With an even seed there are no second names of files: a
/// redo does not keep all of these (ADR 0042).
const TOOLS: &str = r#"
import os, random, subprocess, sys
seed, count = int(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
names = ["n%d" % i for i in range(6)] + ["odd\n name", "-dash", "d0", "d1"]
folders = ["", "d0/", "d1/", "d0/e/"]
git = "git -c user.name=a -c user.email=a@b.c -c gc.auto=0 "
acts = """
mv -f "$A" "$B"
mv -fT "$A" "$B"
mv -t d1 "$A" "$B"
cp "$A" "$B"
cp -rT "$A" "$B"
cp -a "$A" "$B"
cp --remove-destination "$A" "$B"
install -m 640 "$A" "$B"
ln "$A" "$B"
ln -f "$A" "$B"
cp -al "$A" "$B"
ln -s "$A" "$B"
ln -sfn "$A" "$B"
sed -i "s/1/$N/g" "$A"
sed -i.bak "s/$N/x/" "$A"
perl -pi -e "s/2/$N/g" "$A"
echo "$N" > "$A"
seq "$N" >> "$A"
echo "$N" | tee "$A" "$B"
dd if=/dev/zero of="$A" bs=7 count=3 seek=1 conv=notrunc
truncate -s "$N" "$A"
fallocate -l 5000 "$A"
fallocate -p -o 0 -l 4096 "$A"
shred -n 1 -u "$A"
python3 -c 'import mmap, sys; f = open(sys.argv[1], "r+b"); m = mmap.mmap(f.fileno(), 0); m[0] = 65' "$A"
python3 -c 'import os, sys; os.replace(*sys.argv[1:])' "$A" "$B"
chmod "7$((N % 8))0" "$A"
chmod -R u+rwX,go-w d0
chmod a-w "$A"
touch -d "2001-02-03 04:05:$((N % 60))" "$A"
touch -h -d 2002-03-04 "$A"
touch "$A"
setfattr -n user.mark -v "$N" "$A"
setfattr -x user.mark "$A"
mkfifo "$A"
mkdir -p "$A"
rmdir "$A"
rm -f "$A"
rm -rf "$A"
find d1 -depth -name "n*" -delete
tar cf all.tar d0 "$A"
tar xf all.tar
tar xf all.tar --overwrite
tar xf all.tar --unlink-first
tar czf - d0 | tar xzf - -C d1
rsync -a --delete d0/ d1/
rsync -a --inplace "$A" "$B"
rsync -aH d1/ d0/
find d0 | cpio -pdmu --quiet d1
gzip -f "$A"
gunzip -f "$A.gz"
split -n 2 "$A" d0/part
diff -u "$A" "$B" | patch -s "$A"
printf '1i\nadded\n.\nw\n' | ed -s "$A"
sqlite3 base.db "create table if not exists t(x); insert into t values($N), (2 * $N)"
sqlite3 base.db "pragma journal_mode = wal; update t set x = x + $N; delete from t where x % 3 = 0"
sqlite3 base.db vacuum
GIT add -A
GIT commit -qam "$N"
GIT checkout -qf main
GIT checkout -qB side
GIT checkout -qf side
GIT checkout -q -- .
GIT reset -q --hard HEAD~1
GIT stash push -qu
GIT stash pop -q
GIT rebase -q main
GIT merge -qm merged main
GIT cherry-pick main
GIT mv -f "$A" "$B"
GIT rm -rqf "$A"
GIT clean -qfd
GIT clean -qfdx
GIT gc -q --prune=now
GIT worktree add -qf d1/tree main
GIT rebase --abort
GIT merge --abort
rm -rf .git/rebase-merge .git/index.lock
""".strip().split("\n")
links = ("ln \"", "ln -f", "cp -al", "rsync -aH")
if seed % 2 == 0: acts = [act for act in acts if not act.startswith(links)]
done = 0
for number in range(count):
    act = random.choice(acts)
    # What takes everything along is rarer than the rest.
    if any(word in act for word in ("clean -qfdx", "stash push", "worktree")) and random.random() < 0.6: continue
    some = lambda: random.choice(folders) + random.choice(names)
    env = {"A": some(), "B": some(), "N": str(random.randrange(1, 90)), "HOME": "/nowhere", "GIT_EDITOR": "true",
           "PATH": os.environ["PATH"]}
    env = {key: "./" + value if value.startswith("-") else value for key, value in env.items()}
    # A pipe without a reader is waited for by whoever opens it.
    line = act.replace("GIT ", git)
    ended = subprocess.run(["timeout", "2", "sh", "-c", line], env=env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    print(ended.returncode, line, {key: env[key] for key in "ABN"}, ended.stderr[-200:], flush=True)
    done += ended.returncode == 0
assert done > count // 4, done
"#;

const BEFORE: &str = r"
    printf '*.o\n.env\n.vscode\npackage.json\n' > .gitignore; mkdir -p d0/e d1
    for i in 0 1 2 3; do seq 40 > n$i; cp n$i d0/n$i; seq $i 200 > d0/e/n$i; done
    git='git -c user.name=a -c user.email=a@b.c'
    git checkout -qb main; $git add -A; $git commit -qm one; git checkout -qb side; echo side >> n1; $git commit -qam two
    git checkout -q main; echo main >> n2; $git commit -qam three; echo o > x.o; mkfifo d1/fifo; ln -s n1 link
    sqlite3 base.db 'create table t(x); insert into t values(1), (2)'; setfattr -n user.mark -v old n3
";

/// How many operations each side of a run has.
const COUNT: &str = "70";

fn words(home: &Home, seed: u32) -> [String; 4] {
    let script = home.path("tools.py").display().to_string();
    ["python3".to_owned(), script, seed.to_string(), COUNT.to_owned()]
}

/// A project in which tools have been, and what is there now.
fn project(seed: u32) -> (Home, BTreeMap<PathBuf, Seen>) {
    let home = Home::new();
    fs::write(home.path("tools.py"), TOOLS).unwrap();
    let [program, arguments @ ..] = words(&home, 10_000 + seed);
    for (program, arguments) in
        [("sh".to_owned(), vec!["-c".to_owned(), BEFORE.to_owned()]), (program, arguments.into())]
    {
        let mut made = Command::new(program);
        made.args(arguments).current_dir(home.path("work"));
        let made = made.output().unwrap();
        assert!(made.status.success(), "{}", text(&made));
    }
    let before = tree(&home.path("work"));
    (home, before)
}

fn run(home: &Home, seed: u32, is_second: bool) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"");
    command.args(["sh", env!("CARGO_BIN_EXE_stockade"), "run", "--"]).args(words(home, seed));
    command.current_dir(home.path("work")).env_clear();
    command.env("HOME", home.path("")).env("PATH", "/usr/bin:/bin");
    if is_second {
        return command.output().unwrap();
    }
    let mut command = home.command();
    command.arg("--").args(words(home, seed)).output().unwrap()
}

fn is_taken_back(seeds: Range<u32>, is_second: bool) {
    let empty: [PathBuf; 0] = [];
    for seed in seeds {
        let (home, before) = project(seed);
        let work = home.path("work");
        let ran = run(&home, seed, is_second);
        assert!(ran.status.success(), "seed {seed}: {}", text(&ran));
        let said = text(&ran).contains("no user namespaces here");
        assert_eq!(said, is_second, "the backend of {seed}: {}", text(&ran));
        let between = tree(&work);
        assert!(differences(&work, &before).len() > 3, "the control of {seed}");
        let same = |state: &BTreeMap<PathBuf, Seen>, what: &str, output: &Output| {
            let different = differences(&work, state);
            let told = |name: &PathBuf| {
                let name_of = name.display();
                format!("{name_of}\n {:?}\n {:?}", state.get(name), tree(&work).get(name))
            };
            let told: Vec<_> = different.iter().take(4).map(told).collect();
            let all = || format!("{}\n{}\n{}", text(&ran), text(output), told.join("\n"));
            assert_eq!(different, empty, "{what}, seed {seed}: {}", all());
        };
        let undone = stockade(&home, &["undo"]);
        same(&before, "undo", &undone);
        assert!(undone.status.success(), "seed {seed}: {}", text(&undone));
        if seed % 2 == 1 {
            continue;
        }
        let redone = stockade(&home, &["undo", "--redo"]);
        same(&between, "redo", &redone);
        let undone = stockade(&home, &["undo"]);
        same(&before, "again", &undone);
    }
}

/// More than usual, for who looks for what is not found every day.
fn seeds(usual: Range<u32>) -> Range<u32> {
    let more = std::env::var("STOCKADE_SEEDS").ok();
    let range = more.as_deref().and_then(|text| text.split_once(".."));
    let number = |text: &str| text.parse().unwrap();
    range.map_or(usual, |(from, to)| number(from)..number(to))
}

#[test]
#[ignore = "run by the test below, as somebody without privileges"]
fn an_ordinary_user_has_the_work_of_tools_taken_back() {
    is_taken_back(6..8, false);
    is_taken_back(26..28, true);
}

#[test]
fn the_work_of_tools_is_taken_back_whatever_it_was() {
    is_taken_back(seeds(0..6), false);
    also_as_ordinary_user("undo_tools::an_ordinary_user_has_the_work_of_tools_taken_back");
}

#[test]
fn the_work_of_tools_is_taken_back_in_the_second_backend_too() {
    is_taken_back(seeds(20..25), true);
}
