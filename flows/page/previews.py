"""Pictures and files of products: the preview that a run left or one made again, and the copy if it is still there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calib_store.store import Store
from flows.page.model import NightProduct
from flows.page.pngs import notes_of
from imaging.errors import NirflowError, StoreError
from imaging.io.atomic import write_complete
from imaging.io.raw_file import UNFORESEEN, read_headers
from imaging.products.preview import preview_product
from imaging.products.product_file import ProductFile


@dataclass(frozen=True)
class Shown:
    """What the page can show of a product.

    Attributes
    ----------
    preview
        The PNG beside the page; None where there is none.
    reason
        Why there is none.
    file
        The FITS file in the output folder, where it is still this product.
    """

    preview: Path | None = None
    reason: str = ""
    file: Path | None = None


def show_product(store: Store, product: NightProduct, folder: Path) -> Shown:
    """Find a product's file, and have its preview in ``folder``.

    The PNG in the output folder is copied where it is whole and still this product's; otherwise one is made
    from the store's file. A product that cannot be read has no picture, and the reason is told.
    """
    file = product.output if product.output is not None and _holds(product.output, product) else None
    path = folder / f"{product.sha256[:24]}.png"
    if notes_of(path) is not None:
        return Shown(path, file=file)
    try:
        if file is not None and product.preview is not None and notes_of(product.preview) is not None:
            write_complete(path, [product.preview.read_bytes()], sync=False)
            return Shown(path, file=file)
        with ProductFile(stored_file(store, product)) as opened:
            preview_product(path, opened, title=product.name.removesuffix(".fits"))
    except NirflowError as error:
        return Shown(reason=error.message, file=file)
    except (OSError, *UNFORESEEN) as error:
        return Shown(reason=f"the file is invalid ({type(error).__name__}: {error})", file=file)
    return Shown(path, file=file)


def stored_file(store: Store, product: NightProduct) -> Path:
    """The verified file of a product.

    Raises
    ------
    StoreError
        Where the store does not have the product any more, or its file is missing or damaged.
    """
    if product.made_at is None:
        raise StoreError(f"The store does not have {product.name} any more.", remedy="Reduce again.")
    return store.file_of(store.get(product.id))


def _holds(path: Path, product: NightProduct) -> bool:
    """Whether the file at ``path`` is the product, by the recipe key in its header."""
    if not path.is_file():
        return False
    try:
        primary, _ = read_headers(path)
    except (NirflowError, OSError, *UNFORESEEN):
        return False  # whatever is there now, it is not the product
    return str(primary.get("NFKEY", "")).strip() == product.recipe_key
