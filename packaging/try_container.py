"""Run the container file's steps in a bare Debian below a folder, where no builder of images exists (root, Linux).

    python packaging/try_container.py /tmp/debian

makes the folder by `debootstrap`, runs RUN and COPY of every stage in their order by `chroot`, and at the end the
demo as the image's user, and `bleedmap serve --check`. It shows that the steps work, not that an image comes out.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[1]
# This machine's own way to the packages.
WAY = ("etc/resolv.conf", "etc/apt/apt.conf.d", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")
# As in a container, /proc and /sys are there: OpenVINO reads the processor from them, and never ends without. The
# namespace takes its mounts along when it ends.
MOUNTED = 'mount -t proc proc "$1/proc"; mount --rbind /sys "$1/sys"; shift; exec "$@"'
PATHS = "/opt/bleedmap/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> int:
    """Make the root, follow the file, try what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--mirror", default="", help="of Debian's packages; not given: debootstrap's own")
    asked = parser.parse_args()
    subprocess.run(
        ["debootstrap", "--variant=minbase", "bookworm", asked.root, *filter(None, [asked.mirror])], check=True
    )
    with (ROOT / "packaging/Containerfile").open("rb") as file:
        steps = DockerfileParser(fileobj=file).structure
    for step in steps:
        if step["instruction"] == "RUN":
            print(f"RUN {step['value'][:70]}", flush=True)
            run(asked.root, "root", step["value"])
        elif step["instruction"] == "COPY":
            *sources, target = step["value"].split()
            for pattern in sources:
                for one in ROOT.glob(pattern):
                    shutil.copy(one, asked.root / target.lstrip("/"))
    run(asked.root, "bleedmap", "cd /tmp && bleedmap demo -o /tmp/demo --overwrite && bleedmap serve --check")
    return 0


def run(root: Path, user: str, command: str) -> None:
    """In the new root, as a user, with this machine's way to the packages; any step that fails ends all."""
    for name in WAY:
        if (own := Path("/", name)).is_dir():
            shutil.copytree(own, root / name, dirs_exist_ok=True)
        elif own.exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)  # a bare Debian has no folder of certificates
            shutil.copy(own, root / name)
    home = "/root" if user == "root" else f"/home/{user}"
    way = [f"{name}={value}" for name, value in os.environ.items() if name.lower().startswith(("pip_", "http", "ssl_"))]
    clean = ["env", "-i", *way, f"PATH={PATHS}", f"HOME={home}", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
    inside = ["chroot", f"--userspec={user}", root, *clean, "sh", "-ec", command]
    subprocess.run(["unshare", "--mount", "sh", "-ec", MOUNTED, "sh", root, *inside], check=True)


if __name__ == "__main__":
    sys.exit(main())
