"""The commands on the map of suppliers' SKUs: `stockweave skus`. Part of `cli`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from schemas.sku_map import Entry
from stockweave.logs import configure_logs
from stockweave.options import DataDir, Json, settings_of
from stockweave.settings import Settings

skus_app = typer.Typer(help="What suppliers' SKUs are called with us.", no_args_is_help=True)

Supplier = Annotated[str | None, typer.Option("--supplier", help="Its id.")]
SupplierId = Annotated[str, typer.Argument(help="The supplier's id.")]
SupplierSku = Annotated[str, typer.Argument(help="As the supplier has it.")]


@skus_app.command("import")
def skus_import(
    file: Annotated[Path, typer.Argument(help="CSV with columns supplier_sku, sku, and supplier_id or --supplier.")],
    supplier: Supplier = None,
    delimiter: Annotated[str, typer.Option(help="Between columns.")] = ",",
    replace: Annotated[
        bool, typer.Option("--replace", help="Of the suppliers in the file, remove what the file does not name.")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Take in a file, of any size. Exit code 65 if a row is at fault; then nothing is written."""
    from stockweave.skus.command import import_file

    if len(delimiter) != 1:
        raise typer.BadParameter("it is one character", param_hint="--delimiter")
    import_file(_settings(data_dir), file, supplier, delimiter, replace=replace, json=json)


@skus_app.command("list")
def skus_list(
    supplier: Supplier = None,
    sku: Annotated[str | None, typer.Option("--sku", help="Ours.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Print entries, by supplier and SKU."""
    from stockweave.skus.command import show

    show(_settings(data_dir), supplier, sku, limit, json=json)


@skus_app.command("export")
def skus_export(supplier: Supplier = None, data_dir: DataDir = None) -> None:
    """Print all entries as CSV, as `import` reads it."""
    from stockweave.skus.command import export

    export(_settings(data_dir), supplier)


@skus_app.command("set")
def skus_set(
    supplier: SupplierId,
    supplier_sku: SupplierSku,
    sku: Annotated[str, typer.Argument(help="Ours.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Say what one SKU of a supplier's is called with us; connectors follow at once."""
    from stockweave.skus.command import set_one

    set_one(_settings(data_dir), Entry(supplier, supplier_sku, sku), json=json)


@skus_app.command("remove")
def skus_remove(supplier: SupplierId, supplier_sku: SupplierSku, data_dir: DataDir = None, json: Json = False) -> None:
    """Take one entry back."""
    from stockweave.skus.command import set_one

    set_one(_settings(data_dir), Entry(supplier, supplier_sku, None), json=json)


def _settings(data_dir: Path | None) -> Settings:
    settings = settings_of(data_dir=data_dir)
    configure_logs("skus", level=logging.WARNING)
    return settings
