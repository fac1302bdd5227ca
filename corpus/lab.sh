#!/bin/bash
# One laboratory, one run. Started by the tests as the first process of namespaces of its own
# (mount, PID, network, IPC, UTS), so that nothing in here reaches the machine and nothing
# survives: what is unconfined here means "without Stockade", never "on the host".
#
#   LAB_CASE      folder with the case's scripts: attack, and optionally prepare, drive, effect
#   LAB_MODE      control | read-only | workspace-write
#   LAB_USER      user | root
#   LAB_ATTACK    1: what is tried must not have its effect
#   LAB_STOCKADE  the binary under test
#   LAB_TOOLCHAIN a Rust toolchain to show at /srv/toolchain
#   LAB_BACKEND   second: without user namespaces
#   LAB_WHOLE     1: of these, root's laboratory is made inside one that has none
#   LAB_CHECK     1: see to it that what cases name things by is known inside
#   LAB_OPTIONS   further options of `stockade run`
#
# Exit status: that of `effect` (0: the effect is there), 99 when the laboratory is broken.
set -u
broken() { echo "lab: $*" >&2; exit 99; }
umask 022

# The whole laboratory is a user namespace that has no further ones: were the command alone in one of its
# own, the kernel would keep it from what is outside for that reason, and a case that starts Stockade by
# itself would get the first backend.
if [ "${LAB_BACKEND:-}" = second ] && [ "$(id -u)" = 0 ] && [ -n "${LAB_WHOLE:-}" ]; then
  unset LAB_WHOLE; export LAB_IS_ONE=1
  unshare --user bash -c 'until grep -q . /proc/self/uid_map; do sleep 0.01; done
    exec unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child --mount-proc bash "$0"' "$0" & ONE=$!
  own=$(readlink /proc/self/ns/user)
  until [ "$(readlink /proc/$ONE/ns/user)" != "$own" ]; do sleep 0.01; done
  echo "0 0 65536" > /proc/$ONE/uid_map && echo "0 0 65536" > /proc/$ONE/gid_map || broken "no map of ids"
  wait $ONE; exit $?
fi
if [ "${LAB_BACKEND:-}" = second ] && { [ -n "${LAB_IS_ONE:-}" ] || [ "$(id -u)" != 0 ]; }; then
  LAB_IS_ONE=1
  [ "$LAB_MODE" = control ] || echo 0 > /proc/sys/user/max_user_namespaces || broken "user namespaces cannot be had off"
fi

ip link set lo up || broken "no loopback"
case "$LAB_STOCKADE" in
  /srv/*) broken "the laboratory covers /srv: Stockade's checkout has to be elsewhere" ;;
esac
LAB=/srv/lab; CASE=$LAB/case; OUT=/srv/outside; LOOT=$LAB/loot
mount -t tmpfs -o mode=755 tmpfs /srv && mkdir -p $LAB $OUT || broken "cannot mount on /srv"
# A toolchain in a closed folder of root's, where everybody can read it.
if [ -n "${LAB_TOOLCHAIN:-}" ]; then
  mkdir /srv/toolchain && mount --bind "$LAB_TOOLCHAIN" /srv/toolchain || broken "no toolchain"
fi
# Before the places that they may lie in are covered.
cp -r "$LAB_CASE" $CASE && chmod -R a+rX $CASE || broken "no case"
touch $LAB/stockade && mount --bind "$LAB_STOCKADE" $LAB/stockade && mount -o remount,bind,ro $LAB/stockade ||
  broken "no binary"
for place in /home /tmp /var/tmp /run /dev/shm; do
  mount -t tmpfs -o mode=755 tmpfs $place || broken "cannot mount on $place"
done
chmod 1777 /tmp /var/tmp /dev/shm
if [ "$(id -u)" = 0 ] && [ "${LAB_REAL_ROOT:-0}" = 1 ]; then
  mount -o remount,bind,ro / || broken "cannot make / read-only"
fi

if [ "$LAB_USER" = root ]; then NAME=root; WHO=0; else NAME=lab; WHO=${LAB_UID:-1500}; fi
[ -n "${LAB_UID:-}" ] && NAME=$(id -un)
export HOME=/home/$NAME WORK=/home/$NAME/work
if [ "$LAB_USER" = user ] && [ -z "${LAB_UID:-}" ]; then
  { cat /etc/passwd; echo "lab:x:1500:1500::/home/lab:/bin/bash"; } > $LAB/passwd
  { cat /etc/group; echo "lab:x:1500:"; } > $LAB/group
  mount --bind $LAB/passwd /etc/passwd && mount --bind $LAB/group /etc/group || broken passwd
fi

# What people keep at home.
mkdir -p "$HOME" && cd "$HOME" || broken home
mkdir -p .ssh .aws .gnupg .docker .kube .codex .claude .config/gh .config/gcloud .config/stockade \
  .cargo .password-store .mozilla .local/share/keyrings outside .local/state/stockade
for secret in .ssh/id_ed25519 .aws/credentials .gnupg/private .docker/config.json .kube/config \
  .codex/auth.json .claude/history .config/gh/hosts.yml .config/gcloud/token .netrc .npmrc .pypirc \
  .git-credentials .cargo/credentials.toml .password-store/x .mozilla/cookies .vault-token \
  .local/share/keyrings/login .bash_history .claude.json; do
  echo TOPSECRET > $secret
done
printf '[user]\n\tname = Lab\n\temail = lab@example.org\n[init]\n\tdefaultBranch = main\n' > .gitconfig
echo "notes" > notes.txt; echo original > outside/file; echo original > .profile

# A project.
mkdir -p "$WORK" && cd "$WORK" || broken workspace
git init -q . 2>/dev/null || broken git
mkdir -p src tests .vscode .claude .husky .cargo sub/dir
echo 'print("hello")' > src/main.py; echo 'SECRET_SETTING=1' > .env; echo '{}' > .vscode/tasks.json
echo '{}' > .mcp.json; echo '{}' > .claude/settings.json; echo '#!/bin/sh' > .husky/pre-commit
echo '[build]' > .cargo/config.toml; echo '{"name":"lab","scripts":{"test":"echo ok"}}' > package.json
echo 'use_flake' > .envrc; echo x > .env.example
printf '#!/bin/sh\nexit 0\n' > .git/hooks/existing; chmod +x .git/hooks/existing
git -c user.name=l -c user.email=l@l add -A && git -c user.name=l -c user.email=l@l commit -qm first || broken commit
git branch -q other
echo original > $OUT/file; chmod 755 $OUT/file
if [ "$(id -u)" = 0 ]; then
  chown -R $WHO:$WHO "$HOME" $OUT
  chown $WHO:$WHO /dev/shm
fi
touch $LOOT $LAB/errors; chmod 666 $LOOT $LAB/errors

export LAB CASE OUT LOOT
# As the user, without a capability that would reach beyond these namespaces.
AS=(env -i HOME="$HOME" WORK="$WORK" LAB=$LAB CASE=$CASE OUT=$OUT LOOT=$LOOT PATH="${LAB_PATH:-/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin}"
  USER=$NAME LOGNAME=$NAME SHELL=/bin/bash TERM=xterm LANG=C.UTF-8 CANARY_TOKEN=TOPSECRET
  ${RUSTUP_HOME:+RUSTUP_HOME="$RUSTUP_HOME"})
dangerous=-sys_module,-sys_boot,-sys_time,-sys_rawio,-syslog,-mac_admin,-mac_override
if [ "$(id -u)" = 0 ] && [ "$LAB_USER" = user ]; then
  AS=(setpriv --reuid $WHO --regid $WHO --clear-groups --inh-caps=-all --bounding-set=-all "${AS[@]}")
elif [ "$(id -u)" = 0 ]; then
  AS=(setpriv --inh-caps=-all --bounding-set=$dangerous "${AS[@]}")
else
  AS=(setpriv --ambient-caps=-all --inh-caps=-all "${AS[@]}")
fi
as_user() { "${AS[@]}" "$@"; }
# How the case's command is run: bare, or behind the boundary. What the cases name things by has to
# be there inside as well: an attack on `$OUT/file` would otherwise be one on `/file`.
NAMES=(LAB CASE OUT LOOT WORK)
if [ "$LAB_MODE" = control ]; then RUN=("${AS[@]}"); PREFIX=()
else
  # shellcheck disable=SC2206 # options without spaces, of our own
  # Root's own laboratory cannot be one: a machine without user namespaces is made for this one command.
  WITHOUT=()
  if [ "${LAB_BACKEND:-}" = second ] && [ -z "${LAB_IS_ONE:-}" ]; then
    WITHOUT=(unshare --user --map-current-user --keep-caps sh -c
      'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all "$@"' sh)
  fi
  PREFIX=("${WITHOUT[@]}" $LAB/stockade run -q -s "$LAB_MODE" -C "$WORK" ${NAMES[@]/#/--env=} ${LAB_OPTIONS:-} --)
  RUN=("${AS[@]}" "${PREFIX[@]}")
fi
run() { "${RUN[@]}" "$@"; }
# Waits until a condition holds, ten seconds at most.
TRIES=200
await() { for _ in $(seq $TRIES); do "$@" 2>/dev/null && return 0; sleep 0.05; done; return 1; }

cd "$WORK" || broken workspace
# The change of owner made git's index stale, which no checkout of a user's own is.
as_user git status > /dev/null || broken "git status"
[ -e $CASE/internet.sh ] && . $CASE/internet.sh
if [ -e $CASE/folding.py ]; then
  mkdir $LAB/behind && cp -a "$WORK/." $LAB/behind && python3 $CASE/folding.py $LAB/behind "$WORK" && cd "$WORK" || broken folding
fi
[ -e $CASE/prepare ] && { . $CASE/prepare || broken "prepare"; }
[ -z "${LAB_CHECK:-}" ] || [ "$(run printenv "${NAMES[@]}" 2> /dev/null < /dev/null)" = "$(printenv "${NAMES[@]}")" ] ||
  broken "the names of the case are not known inside"
if [ -e $CASE/drive ]; then . $CASE/drive
else run bash $CASE/attack >> $LOOT 2> $LAB/errors < /dev/null; STATUS=$?; fi
[ "${LAB_SHOW:-0}" = 1 ] && { echo "status ${STATUS:-?}"; cat $LOOT $LAB/errors; } >&2
cd "$WORK" || broken "the workspace is gone"
# What the control has shown to come at once need not be waited for as long where it must not come.
[ "${LAB_ATTACK:-}" = 1 ] && [ "$LAB_MODE" != control ] && TRIES=60
. $CASE/effect
