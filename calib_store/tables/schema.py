"""The tables. The comments describe their meaning, `calib_store.migrations` their history."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSTZRANGE, ExcludeConstraint

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


#: Every raw frame seen, by the sha256 of its uncompressed bytes. The exposure time (s) is that of one coadd. A frame in
#: quarantine, with the reason, is not used. ``in_run``: no run is due for it, as one ended, or it has no file here.
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
    Column("in_run", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint(_SHA256, name="sha256"),
    CheckConstraint("facts IS NOT NULL OR quarantine IS NOT NULL", name="usable_or_quarantined"),
)
Index(None, frames.c.name)
Index(None, frames.c.started)
Index("frames_refused_idx", frames.c.sha256, postgresql_where=frames.c.facts.is_(None))
Index("frames_new_idx", frames.c.added_at, postgresql_where=text("NOT in_run"))
Index("frames_quarantined_idx", frames.c.added_at, postgresql_where=frames.c.quarantine.is_not(None))

#: The complete headers, in a separate table so that the rows of frames stay short.
frame_headers = Table(
    "frame_headers",
    metadata,
    Column("frame_sha256", Text, ForeignKey(frames.c.sha256, ondelete="CASCADE"), primary_key=True),
    Column("header", JSONB, nullable=False),
)

#: Where frames were seen, with size and last change of the file, compressed or not: if unchanged, it is not read again.
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

#: The pixels of frames that leave persistence in later exposures of the same pixels of an array, as a compact table
#: (`imaging.pixels.bright_pixels`), with the start and the end of the exposure. Frames without such pixels have no row.
bright_pixels = Table(
    "bright_pixels",
    metadata,
    Column("frame_sha256", Text, ForeignKey(frames.c.sha256, ondelete="CASCADE"), primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("instrument", "detector", "section", "binning")),
    _moment("started"),
    _moment("ended"),
    Column("pixels", LargeBinary, nullable=False),
    _moment("added_at", now=True),
)
Index(
    "bright_pixels_ended_idx", bright_pixels.c.instrument, bright_pixels.c.detector, bright_pixels.c.section,
    bright_pixels.c.binning, bright_pixels.c.ended,
)  # fmt: skip

#: Every decision of users about a raw frame: rejected, or usable again. The latest one applies.
frame_history = Table(
    "frame_history",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("change", Uuid, nullable=False, unique=True),
    Column("frame_sha256", Text, ForeignKey(frames.c.sha256), nullable=False),
    Column("status", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("changed_at", now=True),
    CheckConstraint("status IN ('rejected', 'usable')", name="status"),
)
Index("frame_history_last_idx", frame_history.c.frame_sha256, frame_history.c.changed_at)

#: Every table of rules that the store has used, complete. Versions are never changed.
rule_sets = Table(
    "rule_sets",
    metadata,
    Column("version", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("content", JSONB, nullable=False),
)

#: When rules came into force. The latest one applies; as of an earlier time, the latest one before that.
rule_changes = Table(
    "rule_changes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("version", Text, ForeignKey(rule_sets.c.version), nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("changed_at", now=True),
)

#: What products serve: a rule's name and the values that a frame must have. ``facts`` are the names of the
#: keys in alphabetical order: the rule may have compared different facts at another time.
configurations = Table(
    "configurations",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("rule", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("keys", JSONB, nullable=False),
    Column("facts", ARRAY(Text), nullable=False),
)
Index(None, configurations.c["keys"], postgresql_using="gin", postgresql_ops={"keys": "jsonb_path_ops"})

#: The parameters with which products of a kind were made: their own, and those of the products that they were
#: made from. An experiment is a separate variant.
variants = Table(
    "variants",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("parameters", JSONB, nullable=False),
)
Index("variants_parameters_idx", variants.c.kind, text("md5(CAST(parameters AS text))"), unique=True)

#: What was made, or published by the observatory. The id follows from the recipe key, so it is the same in
#: every store. The configuration is that of the current rules; ``gate`` is the comparison with a
#: certified product, which makes it ``doubtful`` if it failed, as long as that one is certified.
#: ``provisional`` is why it serves others only as a last resort; ``tier`` is its most serious objection
#: (`calib_store.model.records.Tier`).
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
    Column("published", Boolean, nullable=False, server_default=text("false")),
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
    Column("gate", JSONB(none_as_null=True)),
    Column("doubtful", Boolean, nullable=False, server_default=text("false")),
    Column("provisional", Text),
    Column("tier", SmallInteger, nullable=False, server_default=text("0")),
    Column("variant_id", BigInteger, ForeignKey(variants.c.id), nullable=False),
    _moment("made_at", now=True),
    CheckConstraint("tier BETWEEN 0 AND 3", name="tier"),
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
    # At most one certified product of a configuration at a time. Kind is part of the configuration. Two ranges
    # need no extension, whereas "configuration_id WITH =" would need btree_gist.
    ExcludeConstraint(
        (text("int8range(configuration_id, configuration_id, '[]')"), "&&"),
        (text("validity"), "&&"),
        name="products_certified_once",
        using="gist",
        where=text("status = 'certified'"),
        deferrable=True,
        initially="IMMEDIATE",
    ),
)
Index("products_certified_idx", products.c.configuration_id, postgresql_where=text("status = 'certified'"))
Index(None, products.c.kind, products.c.made_at)
Index(None, products.c.kind, products.c.middle)
Index(None, products.c.name)
Index(None, products.c.sha256)
# Products whose comparison depends on a reference.
Index(
    "products_compared_idx", text("((gate -> 'reference') ->> 'id')"), _table=products,
    postgresql_where=text("gate @> '{\"passed\": false}'"),
)  # fmt: skip

#: The configurations that a product serves by all rules, current and earlier, so that a past choice also finds it. The
#: columns that the choice uses are repeated here, so that it needs few rows of products.
serves = Table(
    "serves",
    metadata,
    Column("product_id", Uuid, ForeignKey(products.c.id, ondelete="CASCADE"), primary_key=True),
    Column("configuration_id", BigInteger, ForeignKey(configurations.c.id), primary_key=True),
    _moment("middle"),
    Column("tier", SmallInteger, nullable=False, server_default=text("0")),
    Column("variant_id", BigInteger, nullable=False),
    Column("noise", Float),
)
Index("serves_candidates_idx", serves.c.configuration_id, serves.c.tier, serves.c.middle)
Index("serves_variants_idx", serves.c.configuration_id, serves.c.tier, serves.c.variant_id, serves.c.middle)
Index("serves_nearest_idx", serves.c.configuration_id, serves.c.middle)

#: The frames and products, with their roles, that each product was made from. An input of a product that was made
#: elsewhere may be known only by its name and checksum (``sha256:...`` or ``md5:...``, or empty).
inputs = Table(
    "inputs",
    metadata,
    Column("product_id", Uuid, ForeignKey(products.c.id, ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("role", Text, nullable=False),
    Column("frame_sha256", Text, ForeignKey(frames.c.sha256)),
    Column("input_product_id", Uuid, ForeignKey(products.c.id)),
    Column("foreign_name", Text),
    Column("foreign_sum", Text),
    CheckConstraint("num_nonnulls(frame_sha256, input_product_id, foreign_name) = 1", name="one_source"),
    CheckConstraint("num_nulls(foreign_name, foreign_sum) IN (0, 2)", name="foreign"),
)
Index(None, inputs.c.frame_sha256)
Index(None, inputs.c.input_product_id)
Index(None, inputs.c.foreign_sum)

#: Every change of a product's status, so that the state of the store at an earlier time can be queried. ``change``
#: identifies the act: if it is repeated because the first answer was lost, it is done only once. ``by_product`` is what
#: superseded it; ``because`` is what went bad (id of a product, sha256 of a frame) if that product was made without it.
#: ``automatic``: the store made the change, and reverts it when the reason no longer holds.
status_history = Table(
    "status_history",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("change", Uuid, nullable=False, unique=True, server_default=text("gen_random_uuid()")),
    Column("product_id", Uuid, ForeignKey(products.c.id, ondelete="CASCADE"), nullable=False),
    Column("status", Text, nullable=False),
    Column("validity", TSTZRANGE),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("changed_at", now=True),
    Column("by_product", Uuid, ForeignKey(products.c.id, ondelete="SET NULL")),
    Column("because", Text),
    Column("automatic", Boolean, nullable=False, server_default=text("false")),
)
Index(None, status_history.c.product_id, status_history.c.changed_at)
Index(
    "status_history_because_idx", status_history.c.because,
    postgresql_where=status_history.c.because.is_not(None),
)  # fmt: skip
# What was certified for some time, whatever its later status.
Index(
    "status_history_certified_idx", status_history.c.validity, postgresql_using="gist",
    postgresql_where=text("status = 'certified'"),
)  # fmt: skip

#: Every change of a product's tier after it was added, so that a past choice can be repeated.
tier_changes = Table(
    "tier_changes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("product_id", Uuid, ForeignKey(products.c.id, ondelete="CASCADE"), nullable=False),
    Column("previous", SmallInteger, nullable=False),
    Column("tier", SmallInteger, nullable=False),
    _moment("changed_at", now=True),
)
Index(None, tier_changes.c.product_id, tier_changes.c.changed_at)
Index(None, tier_changes.c.changed_at)

#: Decisions of other stores that came with an import; they have no effect (`calib_store.exchange.proposals`). The frame
#: need not be in this store.
proposals = Table(
    "proposals",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("change", Uuid, nullable=False, unique=True),
    Column("product_id", Uuid, ForeignKey(products.c.id, ondelete="CASCADE")),
    Column("frame_sha256", Text),
    Column("status", Text, nullable=False),
    Column("validity", TSTZRANGE),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("decided_at"),
    Column("source", Text, nullable=False),
    Column("imported_by", Text, nullable=False),
    _moment("imported_at", now=True),
    CheckConstraint("num_nonnulls(product_id, frame_sha256) = 1", name="about"),
)
Index(None, proposals.c.product_id)
Index(None, proposals.c.frame_sha256)

#: For each reduced frame, which calibration was taken, from which candidates, by which rules, as of which time.
#: ``act`` identifies the statement that wrote it, as ``change`` does above.
decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("act", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
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
UniqueConstraint(decisions.c.act, decisions.c.frame_sha256, decisions.c.kind)
Index(None, decisions.c.frame_sha256, decisions.c.kind)
Index(None, decisions.c.product_id)

#: The report of each finished flow run, and the nights of the frames that it reduced. A single sequence of
#: exposures has a name; ``waits_for`` are the kinds of calibration that it did not find.
runs = Table(
    "runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("nights", ARRAY(Date), nullable=False),
    Column("flow", Text, nullable=False),
    Column("sequence", Text),
    Column("waits_for", ARRAY(Text), nullable=False),
    _moment("started"),
    _moment("ended"),
    Column("report", JSONB, nullable=False),
)
Index(None, runs.c.nights, postgresql_using="gin")
Index(None, runs.c.sequence, runs.c.ended)

#: Answers of services that were asked for the stars of a region (deg, ICRS), compressed with zlib; the sha256 is that
#: of the answer itself. Rows are never changed: a later answer to the same question is another row.
catalogue_answers = Table(
    "catalogue_answers",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("service", "catalogue")),
    *(Column(name, Double, nullable=False) for name in ("ra", "dec", "radius")),
    Column("sha256", Text, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    _moment("asked_at", now=True),
    CheckConstraint(_SHA256, name="sha256"),
    CheckConstraint('ra BETWEEN 0 AND 360 AND "dec" BETWEEN -90 AND 90 AND radius > 0', name="region"),
)
Index("catalogue_answers_dec_idx", *(catalogue_answers.c[name] for name in ("service", "catalogue", "dec")))
