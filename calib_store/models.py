"""The tables. Their meaning is in the comments; how they came about is in `calib_store.migrations`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSTZRANGE, ExcludeConstraint

STATUSES = ("candidate", "certified", "rejected", "superseded")

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

_NOW = func.clock_timestamp()
_SHA256 = "sha256 ~ '^[0-9a-f]{64}$'"


def _moment(name: str, *, nullable: bool = False, now: bool = False) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=_NOW if now else None)


#: Every raw frame seen. Identity: sha256 of the uncompressed bytes. The exposure time (s) is that of one
#: coadd. A frame in quarantine is not used; the column says why. Without facts it must be there.
frames = Table(
    "frames",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text),
    Column("exposure_time", Float),
    Column("coadds", Integer),
    Column("read_pairs", Integer),
    Column("filter_id", Text),
    Column("target", Text),
    Column("observation_id", Text),
    Column("data_label", Text),
    _moment("started", nullable=True),
    Column("facts", JSONB(none_as_null=True)),
    Column("quarantine", Text),
    _moment("added_at", now=True),
    CheckConstraint(_SHA256, name="sha256"),
    CheckConstraint("facts IS NOT NULL OR quarantine IS NOT NULL", name="usable_or_quarantined"),
)
Index(None, frames.c.name)
Index(None, frames.c.started)

#: The whole headers, apart, so that the rows of frames stay short.
frame_headers = Table(
    "frame_headers",
    metadata,
    Column("frame_sha256", Text, ForeignKey(frames.c.sha256, ondelete="CASCADE"), primary_key=True),
    Column("header", JSONB, nullable=False),
)

#: Where frames were seen, with the size and date of the file (compressed or not): an unchanged file is not
#: read again.
frame_files = Table(
    "frame_files",
    metadata,
    Column("path", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("frame_sha256", Text, ForeignKey(frames.c.sha256, ondelete="CASCADE"), nullable=False),
    _moment("seen_at", now=True),
)
Index(None, frame_files.c.frame_sha256)

#: What products serve: a rule's name and the values that a frame must have.
configurations = Table(
    "configurations",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("rule", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("keys", JSONB, nullable=False),
)

#: What was made. The id follows from the recipe key, so it is the same in every store. A preview is named by
#: its file, which lies beside the object.
products = Table(
    "products",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("recipe_key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("damaged", Boolean, nullable=False, server_default=text("false")),
    Column("configuration_id", BigInteger, ForeignKey(configurations.c.id)),
    Column("status", Text, nullable=False, server_default="candidate"),
    Column("validity", TSTZRANGE),
    _moment("span_start"),
    _moment("span_end"),
    _moment("middle"),
    Column("facts", JSONB, nullable=False),
    Column("metrics", JSONB, nullable=False),
    Column("parameters", JSONB, nullable=False),
    Column("algorithm_version", Text, nullable=False),
    Column("software_version", Text, nullable=False),
    Column("flow_run_id", Text),
    Column("preview", Text),
    _moment("made_at", now=True),
    CheckConstraint(_SHA256, name="sha256"),
    CheckConstraint("status IN ('candidate', 'certified', 'rejected', 'superseded')", name="status"),
    CheckConstraint("span_start <= middle AND middle <= span_end", name="span"),
    # int8range(NULL, NULL) is all numbers: certified without configuration would exclude every other.
    CheckConstraint(
        "(status = 'certified') = (validity IS NOT NULL)"
        " AND (status <> 'certified' OR configuration_id IS NOT NULL)",
        name="certified",
    ),
    # An empty range overlaps nothing and would slip through the exclusion.
    CheckConstraint("NOT isempty(validity)", name="validity"),
    # One configuration, one certified product at a time. Kind is part of the configuration. Two ranges
    # need no extension, where "configuration_id WITH =" would need btree_gist.
    ExcludeConstraint(
        (text("int8range(configuration_id, configuration_id, '[]')"), "&&"),
        (text("validity"), "&&"),
        name="products_certified_once",
        using="gist",
        where=text("status = 'certified'"),
    ),
)
Index("products_serving_idx", products.c.configuration_id, products.c.middle)
Index(None, products.c.kind, products.c.made_at)
Index(None, products.c.name)
# For look-ups by the first digits, whatever the database's collation.
Index(None, products.c.sha256, postgresql_ops={"sha256": "text_pattern_ops"})

#: Which frames and products, in which role, made each product.
inputs = Table(
    "inputs",
    metadata,
    Column("product_id", Uuid, ForeignKey(products.c.id, ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("role", Text, nullable=False),
    Column("frame_sha256", Text, ForeignKey(frames.c.sha256)),
    Column("input_product_id", Uuid, ForeignKey(products.c.id)),
    CheckConstraint("num_nonnulls(frame_sha256, input_product_id) = 1", name="one_source"),
)
Index(None, inputs.c.frame_sha256)
Index(None, inputs.c.input_product_id)

#: Every change of a product's status, so that what the store knew at a moment can be asked.
status_history = Table(
    "status_history",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("product_id", Uuid, ForeignKey(products.c.id, ondelete="CASCADE"), nullable=False),
    Column("status", Text, nullable=False),
    Column("validity", TSTZRANGE),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("changed_at", now=True),
)
Index(None, status_history.c.product_id, status_history.c.changed_at)

#: For each frame reduced, which calibration was taken, from which candidates, by which rules, as of when.
decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("frame_sha256", Text, ForeignKey(frames.c.sha256), nullable=False),
    Column("kind", Text, nullable=False),
    Column("product_id", Uuid, ForeignKey(products.c.id)),
    Column("rules_version", Text, nullable=False),
    _moment("as_of", nullable=True),
    Column("candidates", JSONB, nullable=False),
    Column("override_author", Text),
    Column("override_reason", Text),
    Column("flow_run_id", Text),
    _moment("made_at", now=True),
    CheckConstraint("num_nulls(override_author, override_reason) IN (0, 2)", name="override"),
)
Index(None, decisions.c.frame_sha256, decisions.c.kind)
Index(None, decisions.c.product_id)
