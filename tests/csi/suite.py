"""Checks with names, what is asserted in each, and a table of them all."""
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

from client import Client, Refused

CHECKS = []
# How often whoever hears no answer asks again.
AGAIN = 5
# So many ask for the same at once.
RACERS = 6


def check(name, rule=""):
    """The function is a check; `rule`: where it comes from."""
    def take(function):
        CHECKS.append((name, rule, function))
        return function
    return take


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def program(*words):
    """What a program prints; it has to succeed."""
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise Failed(f"{' '.join(words)}: {ran.returncode}: {ran.stdout}{ran.stderr}")
    return ran.stdout


class Asking:
    """What checks use. Each method that asserts something counts it."""

    def __init__(self):
        self.asserted = 0
        self.client = Client()

    def fresh(self):
        """Another connection, after a daemon's death."""
        self.client.close()
        self.client = Client()

    # ---- what is said of an answer

    def so(self, holds, what):
        self.asserted += 1
        if not holds:
            raise Failed(what)

    def same(self, is_, wanted, what):
        self.so(is_ == wanted, f"{what}: {is_!r} is not {wanted!r}")

    # ---- requests

    def ask(self, rpc, **fields):
        """Once; the answer is OK."""
        try:
            answer = self.client.call(rpc, fields)
        except Refused as refused:
            raise Failed(f"refused: {refused}") from None
        self.asserted += 1
        return answer

    def five(self, rpc, **fields):
        """Five times, and each time it is the same answer."""
        answer = self.ask(rpc, **fields)
        for _ in range(AGAIN - 1):
            self.same(self.ask(rpc, **fields), answer, f"{rpc} asked again")
        return answer

    def refused(self, code, rpc, **fields):
        """Five times refused with this code, as the interface wants errors to be."""
        codes = code if isinstance(code, tuple) else (code,)
        for _ in range(AGAIN):
            try:
                answer = self.client.call(rpc, fields)
            except Refused as refused:
                self.so(refused.code in codes, f"{rpc}: {refused.code} instead of {code}: {refused.message}")
                self.so(refused.message and not refused.details, f"{rpc}: an error has a message and no details")
                said = refused
                continue
            raise Failed(f"{rpc} was not refused with {code}: {answer}")
        return said

    def race(self, rpc, several=(), **fields):
        """The same from several connections at once: each is OK, or ABORTED and OK when it is asked again; all answers are the same."""
        answers, failed = [], []
        start = threading.Barrier(RACERS)

        def one():
            client = Client()
            try:
                start.wait()
                answers.append(until_done(client, rpc, fields))
            except (Failed, Refused) as why:
                failed.append(str(why))
            finally:
                client.close()

        threads = [threading.Thread(target=one) for _ in range(RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.same(failed, [], f"{rpc} at once")
        self.same(len(answers), RACERS, f"answers of {rpc} at once")
        for answer in answers[1:]:
            self.same(answer, answers[0], f"{rpc} at once")
        return answers[0]

    def killed(self, after, rpc, **fields):
        """The daemon dies so many seconds after the request was sent, and it is asked again of the next one."""
        client, sent = Client(), threading.Event()

        def lost():
            sent.set()
            try:
                client.call(rpc, fields)
            except Refused:
                pass  # Whoever asked cannot know what became of it.

        thread = threading.Thread(target=lost)
        thread.start()
        sent.wait()
        time.sleep(after)
        kill()
        thread.join()
        client.close()
        self.fresh()
        answer = until_done(self.client, rpc, fields)
        self.asserted += 1
        return answer


def until_done(client, rpc, fields):
    """The answer, asked again as long as another request is under way."""
    end = time.monotonic() + 300
    while True:
        try:
            return client.call(rpc, fields)
        except Refused as refused:
            if refused.code not in ("ABORTED", "UNAVAILABLE") or time.monotonic() > end:
                raise Failed(f"refused: {refused}") from None
        time.sleep(0.02)


def daemon():
    return int(program("systemctl", "show", "-P", "MainPID", "volumed"))


_pid = [0]


def kill():
    """SIGKILL to the daemon. Its service manager starts the next one, and whoever asks meanwhile waits at the socket."""
    last = _pid[0]
    while _pid[0] in (0, last):
        _pid[0] = daemon()
    os.kill(_pid[0], signal.SIGKILL)


def main():
    """Runs all checks, or those whose names have a word of the command line; the exit code."""
    words, table, failed, total = sys.argv[1:], [], 0, 0
    for name, rule, function in CHECKS:
        if words and not any(word in name for word in words):
            continue
        ask, begin, how = Asking(), time.monotonic(), "ok"
        try:
            function(ask)
        except Skipped as why:
            how = f"skipped: {why}"
        except (Failed, Refused) as why:
            how, failed = "FAILED", failed + 1
            print(f"FAILED: {name}: {why}\n{traceback.format_exc(limit=-4)}", flush=True)
        except Exception:  # A defect of the check's own is a failure, and the others go on.
            how, failed = "FAILED", failed + 1
            print(f"FAILED: {name}:\n{traceback.format_exc()}", flush=True)
        ask.client.close()
        total += ask.asserted
        table.append((how, rule, name, ask.asserted, round((time.monotonic() - begin) * 1000)))
    print(f"{'result':8}{'rule':14}{'asserted':>9}{'ms':>7}  check")
    for how, rule, name, asserted, ms in table:
        print(f"{how:8}{rule:14}{asserted:9}{ms:7}  {name}")
    print("asked: " + ", ".join(f"{rpc} {count}" for rpc, count in sorted(Client.asked.items())))
    skipped = sum(row[0].startswith("skipped") for row in table)
    print(f"CHECKS {len(table)} ASSERTED {total} FAILED {failed} SKIPPED {skipped} RPCS {len(Client.asked)}")
    return 1 if failed else 0
