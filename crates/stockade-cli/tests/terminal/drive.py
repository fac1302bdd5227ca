"""Drives `stockade` through a real terminal, as a person's shell would.

    drive.py STOCKADE FOLDER SCENARIO

Exit status 0 when everything was seen that should be; else what was seen is printed.
"""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

STOCKADE, FOLDER, SCENARIO = sys.argv[1:]


class Terminal:
    def __init__(self, *command):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(FOLDER)
            os.execvp(command[0], command)

    def expect(self, text, seconds=10):
        """Reads until `text` is seen after what was consumed before."""
        end = time.time() + seconds
        while text.encode() not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.time()))
            if not ready:
                sys.exit(f"{SCENARIO}: waited for {text!r}, saw {self.seen!r}")
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                sys.exit(f"{SCENARIO}: the terminal closed before {text!r}: {self.seen!r}")
            self.seen += data
        head, _, self.seen = self.seen.partition(text.encode())
        return head

    def type(self, text):
        os.write(self.fd, text.encode())

    def size(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self):
        return termios.tcgetattr(self.fd)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait(self):
        end = time.time() + 10
        while time.time() < end:
            try:
                os.read(self.fd, 65536) if select.select([self.fd], [], [], 0.05)[0] else None
            except OSError:
                pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        sys.exit(f"{SCENARIO}: it does not end")


def run(*command):
    return Terminal(STOCKADE, "run", "-q", "--", *command)


def check(truth, what):
    if not truth:
        sys.exit(f"{SCENARIO}: {what}")


def resize():
    t = Terminal("sh", "-c", f"stty rows 31 cols 99; exec {STOCKADE} run -q -- sh -c 'stty size; trap \"stty size; exit 0\" WINCH; echo ready; while :; do sleep 0.05; done'")
    t.expect("31 99")
    t.expect("ready")
    t.size(17, 61)
    t.expect("17 61")
    check(t.wait() == 0, "the status is lost")


def interrupt():
    t = run("bash", "--norc", "-i")
    t.expect("bash-")
    t.type("sleep 100\n")
    time.sleep(0.4)
    t.type("\x03")
    t.type("echo status=$?\n")
    t.expect("status=130")
    t.type("sleep 100\n")
    time.sleep(0.4)
    t.type("\x1c")
    t.type("echo status=$?\n")
    t.expect("status=131")
    t.type("exit 7\n")
    check(t.wait() == 7, "the status is lost")


def interrupt_alone():
    t = run("sleep", "100")
    time.sleep(0.5)
    t.type("\x03")
    check(t.wait() == 130, "Ctrl-C did not end the command by SIGINT")


def stop_and_continue():
    t = Terminal("bash", "--norc", "-i")
    t.expect("bash-")
    t.type(f"{STOCKADE} run -q -- cat\n")
    time.sleep(0.5)
    before = t.settings()
    t.type("abc\n")
    t.expect("abc\r\nabc")
    t.type("\x1a")
    t.expect("Stopped")
    check(t.settings() & termios.ISIG, "the shell's terminal is raw")
    t.type("fg\n")
    time.sleep(0.5)
    check(t.settings() == before, "raw mode did not come back")
    t.type("def\n")
    t.expect("def\r\ndef")
    t.type("\x04")
    t.expect("bash-")
    t.type("exit\n")
    check(t.wait() == 0, "the shell failed")


def job_control_inside():
    t = run("bash", "--norc", "-i")
    t.expect("bash-")
    t.type("sleep 100\n")
    time.sleep(0.4)
    t.type("\x1a")
    t.expect("Stopped")
    t.type("kill -9 %1; sleep 0.3; exit 5\n")
    check(t.wait() == 5, "the status is lost")


def raw_mode():
    t = run("python3", "-c", "import tty,sys,os; tty.setraw(0); os.write(1, b'ready'); c = os.read(0, 3); os.write(1, b'got' + bytes(c).hex().encode())")
    t.expect("ready")
    t.type("\x03\x1a\x04")
    t.expect("got031a04")
    check(t.wait() == 0, "the status is lost")


def restored_after_sigkill():
    t = Terminal("bash", "--norc", "-i")
    t.expect("bash-")
    t.type("stty sane; echo a-$((1+1))\n")
    t.expect("a-2")
    time.sleep(0.3)
    before = termios.tcgetattr(t.fd)
    t.type(f"{STOCKADE} run -q -- sh -c 'echo up-$((1+1)); sleep 100'\n")
    t.expect("up-2")
    check(termios.tcgetattr(t.fd)[3] != before[3], "the terminal was not made raw")
    children = open(f"/proc/{t.pid}/task/{t.pid}/children").read().split()
    os.kill(int(children[0]), signal.SIGKILL)
    t.expect("Killed")
    time.sleep(0.3)
    t.type("stty -a | tr ' ;' '\\n\\n' | grep -x icanon; exit\n")
    t.expect("icanon", 5)
    check(t.wait() in (0, 137), "the shell failed")


def mixed_descriptors():
    t = Terminal("sh", "-c", f"echo piped | {STOCKADE} run -q -- sh -c 'test -t 0 && echo bad; cat; test -t 1 && echo out-is-a-terminal' ; {STOCKADE} run -q -- sh -c 'test -t 1 || echo not-a-terminal >&2; test -t 0 && echo in-is-a-terminal >&2' > /dev/null")
    t.expect("piped")
    t.expect("out-is-a-terminal")
    t.expect("not-a-terminal")
    t.expect("in-is-a-terminal")
    t.wait()


def no_terminal():
    t = Terminal("sh", "-c", f"{STOCKADE} run -q -- sh -c '(: < /dev/tty) 2> /dev/null && echo has-tty || echo no-tty; ps -o sid= -p $$' < /dev/null 2>&1 | cat")
    t.expect("no-tty")
    t.wait()


def large_output():
    t = run("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo the-end")
    t.expect("the-end", 20)
    check(t.wait() == 0, "the status is lost")


def refused():
    script = "echo > ../outside; : > inside; mkdir -p .git/hooks; echo > .git/hooks/x; exit 3"
    t = Terminal(STOCKADE, "run", "-a", "never", "--", "sh", "-c", script)
    t.expect("calls were refused: write of ")
    t.expect("outside (outside the writable roots)")
    t.expect("--add-dir FOLDER")
    check(t.wait() == 3, "the status is lost")
    for command in (f"{STOCKADE} run -q -a never -- sh -c '{script}'",
                    f"{STOCKADE} run -a never -- sh -c '{script}' 2> said; grep -v '^sh: ' said",
                    f"{STOCKADE} run -a never -- sh -c ': > inside'"):
        t = Terminal("sh", "-c", command + "; echo the-end")
        check(b"refused" not in t.expect("the-end"), "it is said where nobody asked")


def asking(*command):
    """A workspace, and a folder outside that is beside it."""
    os.makedirs(os.path.join(FOLDER, "w"), exist_ok=True)
    return Terminal(STOCKADE, "run", "-q", "-C", "w", "--", *command)


def outside(name="outside"):
    try:
        with open(os.path.join(FOLDER, name)) as file:
            return file.read()
    except FileNotFoundError:
        return None


def asked():
    t = asking("sh", "-c", "echo begin; until test -e go; do sleep 0.05; done; echo x > ../outside; echo $?; cat ../outside; read first; read line; echo got $first $line")
    t.expect("begin")
    # What was typed to the command is no answer, and what is typed after it reaches the command. The
    # echo says that it is on its way.
    t.type("y\n")
    t.expect("y\r\n")
    with open(os.path.join(FOLDER, "w", "go"), "w"):
        pass
    t.expect("? stockade: write ")
    t.expect("no> ")
    check(t.settings() & termios.ICANON and t.settings() & termios.ECHO, "no line can be typed")
    check(outside() is None, "it was opened before the answer")
    t.type("y\n")
    t.expect("0\r\nx\r\n")
    check(not t.settings() & termios.ICANON, "the terminal is not the command's again")
    t.type("word\n")
    t.expect("got y word")
    check(t.wait() == 0 and outside() == "x\n", "a yes opens nothing")
    t = asking("sh", "-c", "echo y > ../outside; echo status $?; echo z > ../other; exit 4")
    t.expect("no> ")
    t.type("n leave it\n")
    t.expect("status 2")
    t.expect("no> ")
    t.type("\n")
    check(t.wait() == 4 and outside() == "x\n" and outside("other") is None, "a no opens it")
    check(t.settings() & termios.ICANON, "the terminal is not given back")


def asked_no_more():
    t = asking("sh", "-c", "for n in 1 2 3; do echo > ../outside$n; done; echo the-end")
    t.expect("no> ")
    t.type("q\n")
    check(b"no> " not in t.expect("the-end"), "it is asked again")
    check(t.wait() == 0 and outside("outside1") is None, "a no opens it")


def asked_and_interrupted():
    t = asking("sh", "-c", "trap 'echo handled; exit 5' INT; echo x > ../outside; echo $?; exit 6")
    t.expect("no> ")
    t.type("\x03")
    t.expect("handled")
    check(t.wait() == 5 and outside() is None, "the command is not interrupted")


SCREEN = r"""
import os, signal, sys, termios, tty
def draw(*_):
    os.write(1, b"\x1b[2J\x1b[Hdrawn\x1b[0m")
signal.signal(signal.SIGWINCH, draw)
tty.setraw(0)
os.write(1, b"\x1b[?1049h\x1b[?1000h\x1b[?25l")
draw()
os.read(0, 1)
open("../outside", "w").write("x")
os.write(1, b"opened")
key = os.read(0, 1)
os.write(1, b"\x1b[?1049l\x1b[?1000l\x1b[?25hkey " + key)
"""


def asked_on_a_screen():
    t = asking("python3", "-c", SCREEN)
    t.expect("drawn")
    t.type("w")
    t.expect("\x1b[?1000l\x1b[?1049l\x1b[?25h")
    t.expect("no> ")
    t.type("y\n")
    # The screen is the program's again, and it has drawn it anew.
    t.expect("\x1b[?1000h\x1b[?1049h\x1b[?25l")
    t.expect("drawn")
    t.type("k")
    t.expect("key k")
    check(t.wait() == 0 and outside() == "x", "a yes opens nothing")


CURSES = r"""
import curses
def main(screen):
    key = curses.KEY_RESIZE
    while key != ord("k"):
        if key == curses.KEY_RESIZE:
            screen.erase()
            for row in range(5):
                screen.addstr(row, 0, f"row {row}")
            screen.refresh()
        if key == ord("w"):
            open("../outside", "w").write("x")
        key = screen.getch()
curses.wrapper(main)
"""


def asked_on_a_screen_of_curses():
    # What looks at the terminal's size itself draws only when that is another one.
    t = asking("sh", "-c", "read go; TERM=xterm exec python3 -c \"$0\"", CURSES)
    t.size(24, 80)
    t.type("\n")
    t.expect("row 4")
    t.type("w")
    t.expect("no> ")
    t.type("y\n")
    t.expect("\x1b[?1049h")
    t.expect("row 0")
    t.expect("row 4")
    t.type("k")
    check(t.wait() == 0 and outside() == "x", "a yes opens nothing")


def cloud(*options):
    """The line that starts a cloud thread, which waits in the queue: the only place is taken."""
    home = os.path.join(FOLDER, "home")
    slots = os.path.join(home, ".local/state/stockade/slots")
    work = os.path.join(FOLDER, "w")
    os.environ.update(HOME=home, TERM="dumb")
    os.environ.pop("XDG_STATE_HOME", None)
    if not os.path.isdir(work):
        os.makedirs(slots, 0o700)
        os.makedirs(work)
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", work]
        for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "start"]):
            subprocess.run(git + words, check=True)
        # Held until this process ends.
        global place
        place = open(os.path.join(slots, "0"), "w")
        fcntl.flock(place, fcntl.LOCK_EX)
    return [STOCKADE, "cloud", "-C", "w", "-c", "cloud.parallel=1", *options, "--", "true"]


def threads(*words):
    work = os.path.join(FOLDER, "w")
    return subprocess.run([STOCKADE, "threads", *words], cwd=work, capture_output=True, text=True)


def state():
    return json.loads(threads("list", "--here", "--json").stdout)[0]["state"]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def is_at_work(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "stockade"
    except FileNotFoundError:
        # Gone, or not yet waited for.
        return False


def until(truth, what):
    end = time.time() + 20
    while not truth():
        check(time.time() < end, what)
        time.sleep(0.02)


CHOICE = "[d] detach, [c] cancel, [Enter] go on"


def detached():
    line = " ".join(cloud())
    t = Terminal("bash", "--norc", "-i")
    t.expect("bash-")
    t.type(line + "\n")
    t.expect("queue")
    [front] = children(t.pid)
    [behind] = children(front)
    # What is no wish is asked about again, and Enter changes nothing.
    for words, answer in (("\x03", CHOICE), ("detach\n", CHOICE), ("\n", "it goes on"), ("\x03", CHOICE)):
        t.type(words)
        t.expect(answer)
    check(state() == "queued" and is_at_work(front), "it does not go on")
    t.type("d\n")
    t.expect("goes on in the background")
    t.expect("threads log -f")
    t.expect("bash-")
    t.type("echo status=$?\n")
    t.expect("status=130")
    check(not is_at_work(front) and is_at_work(behind), "not the one in front has ended")
    ends = {os.readlink(f"/proc/{behind}/fd/{number}") for number in range(3)}
    check(ends == {"/dev/null"} and os.getsid(behind) == behind, f"it has the terminal: {ends}")
    t.type("exit\n")
    t.wait()
    os.close(t.fd)
    check(is_at_work(behind) and state() == "queued", "it ends with the terminal")
    work = os.path.join(FOLDER, "w")
    log = subprocess.Popen([STOCKADE, "threads", "log", "-f", "last"], cwd=work, stdout=subprocess.PIPE, text=True)
    for words in log.stdout:
        if "phase queue started" in words:
            break
    cancelled = threads("cancel", "last")
    check(cancelled.returncode == 0 and state() == "cancelled", cancelled.stderr)
    check("cancelled" in log.stdout.read() and log.wait() == 0, "the log does not end")
    until(lambda: not is_at_work(behind), "it is left behind")


def detached_or_not():
    t = Terminal(*cloud())
    t.expect("queue")
    t.type("\x03")
    t.expect(CHOICE)
    t.type("c\n")
    t.expect("stockade: interrupted")
    check(t.wait() == 130 and state() == "interrupted", "`c` does not end it")
    t = Terminal(*cloud())
    t.expect("queue")
    t.type("\x03")
    t.expect(CHOICE)
    t.type("\x03")
    t.expect("stockade: interrupted")
    check(t.wait() == 130 and state() == "interrupted", "Ctrl-C again does not end it")
    # A signal that no key made, and one from a session manager.
    for name, number, asks in (("INT", signal.SIGINT, True), ("TERM", signal.SIGTERM, False)):
        t = Terminal(*cloud())
        t.expect("queue")
        os.kill(t.pid, number)
        if asks:
            t.expect(CHOICE)
            t.type("c\n")
        check(CHOICE.encode() not in t.expect("stockade: interrupted"), f"SIG{name} asks")
        check(t.wait() == 130, f"SIG{name} does not end it")
    # Without a person nobody is asked, and nothing is behind.
    for redirected in ("< /dev/null", "2> said", "--json"):
        line = " ".join(cloud(*redirected.split()[:1] if redirected == "--json" else []))
        t = Terminal("bash", "--norc", "-i")
        t.expect("bash-")
        t.type(line + ("" if redirected == "--json" else " " + redirected) + "\n")
        until(lambda: children(t.pid), "it does not start")
        [front] = children(t.pid)
        until(lambda: open(f"/proc/{front}/comm").read() == "stockade\n", "it does not start")
        until(lambda: state() == "queued", "it does not wait")
        check(not children(front), "somebody is behind")
        t.type("\x03")
        seen = t.expect("bash-")
        check(CHOICE.encode() not in seen, f"{redirected}: it asks")
        t.type("echo status=$?; exit\n")
        t.expect("status=130")
        t.wait()


def killed_in_front():
    t = Terminal(*cloud())
    t.expect("queue")
    [behind] = children(t.pid)
    os.kill(t.pid, signal.SIGKILL)
    until(lambda: not is_at_work(behind), "the one behind goes on")
    check(state() == "interrupted", "its record does not say so")


globals()[SCENARIO]()
