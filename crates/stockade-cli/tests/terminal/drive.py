"""Drives `stockade run` through a real terminal, as a person's shell would.

    drive.py STOCKADE FOLDER SCENARIO

Exit status 0 when everything was seen that should be; else what was seen is printed.
"""
import fcntl
import os
import pty
import select
import signal
import struct
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
    t = Terminal(STOCKADE, "run", "--", "sh", "-c", script)
    t.expect("calls were refused: write of ")
    t.expect("outside (outside the writable roots)")
    t.expect("--add-dir FOLDER")
    check(t.wait() == 3, "the status is lost")
    for command in (f"{STOCKADE} run -q -- sh -c '{script}'",
                    f"{STOCKADE} run -- sh -c '{script}' 2> said; grep -v '^sh: ' said",
                    f"{STOCKADE} run -- sh -c ': > inside'"):
        t = Terminal("sh", "-c", command + "; echo the-end")
        check(b"refused" not in t.expect("the-end"), "it is said where nobody asked")


globals()[SCENARIO]()
