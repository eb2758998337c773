"""A real Vault for tests: its core and HTTP interface, built from the Go modules in `vault/`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hvac

from tests import go_program

SOURCE = Path(__file__).with_name("vault")
PATH = "suppliers/acme"


def build(folder: Path) -> Path:
    """The program; raises CannotBuild."""
    return go_program.build(SOURCE, folder / "vault", "-trimpath", "-ldflags=-s -w")


class VaultServer:
    """One that listens. `root`: may do everything."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.root = hvac.Client(address, token="")
        opened = self.root.sys.initialize(secret_shares=1, secret_threshold=1)
        [self._key] = opened["keys"]
        self.unseal()
        self.root.token = opened["root_token"]
        self.root.sys.enable_secrets_engine("kv", path="secret", options={"version": "1"})
        self.root.sys.enable_secrets_engine("kv", path="versioned", options={"version": "2"})
        self.root.sys.enable_auth_method("approle")
        rules = "\n".join(
            f'path "{path}/suppliers/*" {{ capabilities = ["read"] }}' for path in ("secret", "versioned/data")
        )
        self.root.sys.create_or_update_policy("reader", rules)

    def write(self, **fields: Any) -> None:
        """To the secret at `PATH` of the engine of version 1."""
        self.root.secrets.kv.v1.create_or_update_secret(PATH, fields, mount_point="secret")

    def seal(self) -> None:
        self.root.sys.seal()

    def unseal(self) -> None:
        self.root.sys.submit_unseal_key(self._key)

    def token(self, ttl: str = "1h") -> str:
        """Of one that may read suppliers' secrets."""
        made = self.root.auth.token.create(policies=["reader"], ttl=ttl, renewable=True)
        return str(made["auth"]["client_token"])

    def role(self, ttl: str) -> tuple[str, str]:
        """Id and secret id of a role whose tokens may read suppliers' secrets."""
        approle = self.root.auth.approle
        approle.create_or_update_approle("stockweave", token_policies=["reader"], token_ttl=ttl, token_max_ttl=ttl)
        secret_id = approle.generate_secret_id("stockweave")["data"]["secret_id"]
        return str(approle.read_role_id("stockweave")["data"]["role_id"]), str(secret_id)


@contextmanager
def running(program: Path) -> Iterator[VaultServer]:
    """Until the end of the block."""
    with subprocess.Popen([str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        server = VaultServer(f"http://{address}")
        try:
            yield server
        finally:
            server.root.adapter.close()
            process.kill()
