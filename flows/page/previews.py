"""Pictures and files of products: a run's preview or a new one, and the copy in the output folder if it still
exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calib_store.store import Store
from flows.page.model import NightProduct
from imaging.errors import NirflowError, StoreError
from imaging.io.atomic import write_complete
from imaging.io.raw_file import UNFORESEEN, read_headers
from imaging.products.captions import Caption, caption_of
from imaging.products.preview import preview_product
from imaging.products.product_file import ProductFile


@dataclass(frozen=True)
class Shown:
    """The picture and the file of a product for the page.

    Attributes
    ----------
    preview
        The PNG next to the page; None without a picture.
    caption
        What it shows.
    reason
        Why there is no picture.
    file
        The FITS file in the output folder, if it is still this product.
    """

    preview: Path | None = None
    caption: Caption | None = None
    reason: str = ""
    file: Path | None = None


def show_product(store: Store, product: NightProduct, folder: Path) -> Shown:
    """Find a product's file, and put its preview into ``folder``.

    The PNG in the output folder is copied if it is intact, has a caption and is still this product's; otherwise a new
    one is made from the store's file. A product that cannot be read has no picture, and the reason is given.
    """
    file = product.output if product.output is not None and _holds(product.output, product) else None
    path = folder / f"{product.sha256[:24]}.png"
    if (caption := caption_of(path)) is not None:
        return Shown(path, caption, file=file)
    try:
        if file is not None and product.preview is not None and caption_of(product.preview) is not None:
            write_complete(path, [product.preview.read_bytes()], sync=False)
        else:
            with ProductFile(stored_file(store, product)) as opened:
                preview_product(path, opened)
    except NirflowError as error:
        return Shown(reason=error.message, file=file)
    except (OSError, *UNFORESEEN) as error:
        return Shown(reason=f"the file is invalid ({type(error).__name__}: {error})", file=file)
    return Shown(path, caption_of(path), file=file)


def stored_file(store: Store, product: NightProduct) -> Path:
    """Return the verified file of a product.

    Raises
    ------
    StoreError
        If the store no longer has the product, or its file is missing or damaged.
    """
    if product.made_at is None:
        raise StoreError(f"The store no longer has {product.name}.", remedy="Reduce its frames again.")
    return store.file_of(store.get(product.id))


def _holds(path: Path, product: NightProduct) -> bool:
    """Return whether the file at ``path`` is the product, by the recipe key in its header."""
    if not path.is_file():
        return False
    try:
        primary, _ = read_headers(path)
    except (NirflowError, OSError, *UNFORESEEN):
        return False  # not the product, whatever it is
    return str(primary.get("NFKEY", "")).strip() == product.recipe_key
