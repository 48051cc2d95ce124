"""`make fresh`: README's first command, the quick tier and the check of the locks on a machine with nothing installed.

python -m tests.fresh

The machine is a Debian 12 made by debootstrap in var/fresh, from the mirror that apt-get uses here, with its own Python
3.11.2, git and make; the checkout in it is a clone of the last commit. It takes root, debootstrap and 2 GB. The bare
Debian is kept in var/fresh/base (or in `LASTSEEN_FRESH_BASE`) for the next time. Certificates, the name server and the
environment of pip are those of this machine, and are written nowhere but in that root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.patience import ends_within

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "var" / "fresh"
SUITE = "bookworm"
PACKAGES = ("ca-certificates", "git", "make", "python3", "python3-venv")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
CHECKOUT = "src/lastseen"
PASSED_ON = ("PIP_", "UV_", "SSL_CERT_", "LASTSEEN_", "REQUESTS_CA_BUNDLE")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
DEMO_MB = 150
"""What `make demo` may install, beyond Python."""
STEPS = (
    ("make demo", "make demo"),
    ("size of the demo's environment", f'test "$(du -sm .venv | tee /dev/stderr | cut -f1)" -le {DEMO_MB}'),
    ("make setup", "make setup"),
    ("make quick", "make quick"),
    ("make locks-check", "make locks-check"),
)
LASTS_AT_MOST_S = 1_200
"""For one step, in seconds of a quiet machine."""


class NotHere(Exception):
    """A root cannot be made here; says why, and what to do."""


def base() -> Path:
    """The bare Debian, made where it is not there yet. Raises `NotHere`, `subprocess.CalledProcessError`."""
    place = Path(os.environ.get("LASTSEEN_FRESH_BASE") or KEPT / "base")
    if not place.exists():
        arriving = place.with_name(f"{place.name}.arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.parent.mkdir(parents=True, exist_ok=True)
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(arriving), mirror())
        for package in arriving.glob("var/cache/apt/archives/*.deb"):
            package.unlink()
        arriving.rename(place)
    return place


def mirror() -> str:
    """Where apt-get of this machine has Debian from; Debian's own address where it does not say."""
    asked = ("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {SUITE}")
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return listed[0] if listed else "http://deb.debian.org/debian"


def check_it_can_be() -> None:
    """Raises `NotHere`."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotHere(
            "only root on Linux can make a root to change into: run it as root, in a machine that is for tests"
        )
    if not shutil.which("debootstrap"):
        if not shutil.which("apt-get"):
            raise NotHere("debootstrap is missing, and there is no apt-get to install it: install it")
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "install", "-y", "--no-install-recommends", "debootstrap")
    trial = ("unshare", "--mount", "true")
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        raise NotHere("mounts of its own are not allowed here (unshare --mount): run it outside of this container")


def make_root(folder: Path) -> None:
    """A copy of the bare Debian, with the last commit checked out, and this machine's way to the network."""
    run("cp", "--archive", "--reflink=auto", str(base()), str(folder))
    for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", f"/{CERTIFICATES}"):
        if Path(file).is_file():
            shutil.copyfile(file, folder / file[1:])
    (folder / CHECKOUT).parent.mkdir(exist_ok=True)
    run("git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder / CHECKOUT))


def environment() -> dict[str, str]:
    """The variables of the commands in the root: a bare set, and what names the way to the network."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON) or name in PROXIES}
    return {**kept, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}


def run_inside(folder: Path, command: str) -> bool:
    """Run a command in the root, with mounts that go when it ends; whether it went well."""
    inside = (
        f'mount -t proc proc "{folder}/proc" && mount --rbind /dev "{folder}/dev" && mount --rbind /sys "{folder}/sys"'
        f" && exec chroot \"{folder}\" sh -c 'cd /{CHECKOUT} && {command}'"
    )
    unshared = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", inside)
    step = subprocess.Popen(unshared, env=environment(), stdin=subprocess.DEVNULL)
    if not ends_within(step, LASTS_AT_MOST_S):
        say(f"it was not done after {LASTS_AT_MOST_S} s of a quiet machine")
    return step.returncode == 0


def run(*command: str) -> None:
    """Run a command of this machine; what it prints matters only where it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"{done.stdout}{done.stderr}"[-4_000:])
        done.check_returncode()


def say(text: str) -> None:
    """A line for people who watch."""
    sys.stderr.write(f"lastseen: {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Make the root, and do there what a newcomer does first; 1 where a step fails, or no root can be made."""
    begun = time.monotonic()
    folder = KEPT / "root"
    try:
        check_it_can_be()
        shutil.rmtree(folder, ignore_errors=True)
        make_root(folder)
        say(f"a bare Debian ({SUITE}) stands after {time.monotonic() - begun:.0f} s")
        for name, command in STEPS:
            began = time.monotonic()
            if not run_inside(folder, command):
                say(f"{name}: FAILED on a fresh machine, in {folder}")
                return 1
            say(f"{name}: {time.monotonic() - began:.0f} s")
    except NotHere as why:
        say(f"make fresh: {why}")
        return 1
    except subprocess.CalledProcessError as failure:
        say(f"make fresh: {failure}")
        return 1
    shutil.rmtree(folder)
    say(f"all that README begins with works on a fresh Debian, seen in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
