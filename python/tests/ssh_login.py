"""OpenSSH's client, without the files of the user who runs the tests."""

from __future__ import annotations

import subprocess


def run_over_ssh(hostname: str, username: str, port: int, command: str) -> str:
    """What the command prints in the sandbox."""
    options = {
        "BatchMode": "yes",
        "GlobalKnownHostsFile": "/dev/null",
        "IdentityAgent": "none",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    words = ["ssh", "-F", "/dev/null", *settings, "-p", str(port), f"{username}@{hostname}", command]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
