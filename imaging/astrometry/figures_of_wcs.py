"""The figures of a stack's world coordinates."""

from __future__ import annotations

from imaging.figures import Metrics, figure


class AstrometryMetrics(Metrics):
    """Figures of the world coordinates of a stack."""

    wcs_from: str | None = figure(
        "what the world coordinates are from: telescope, or the name of a catalogue; missing without any",
        "world coordinates from", default=None,
    )  # fmt: skip
    astrometry_rms: float | None = figure(
        "weighted residual of the catalogue's stars along one axis",
        "astrometric residual", unit="mas", digits=2, headline=True, history=True, default=None,
    )  # fmt: skip
    astrometry_error: float | None = figure(
        "standard error of a position along one axis expected from the errors of the stars, over the image",
        "astrometric error", unit="mas", digits=2, history=True, default=None,
    )  # fmt: skip
    astrometry_scatter: float | None = figure(
        "what the residuals have in addition to the errors of the catalogue and the centroids",
        "astrometric scatter beyond stated errors", unit="mas", digits=2, default=None,
    )  # fmt: skip
    astrometry_stars: int | None = figure(
        "stars of the catalogue that the world coordinates are from", "astrometric stars", default=None
    )
    astrometry_chance: float | None = figure(
        "probability that stars of another field match as well", "match by chance", digits=2, default=None
    )
    distortion_order: int | None = figure(
        "order of the distortion polynomials (SIP); 1 without distortion", "distortion", default=None
    )
    distortion_gain: float | None = figure(
        "factor by which distortion reduces the residuals of stars left out of the fit; missing if it was not tried",
        "gain by distortion", default=None,
    )  # fmt: skip
    pointing_error: float | None = figure(
        "distance of the middle of the stack from where the telescope's world coordinates have it",
        "error of the telescope's coordinates", unit="arcsec", history=True, default=None,
    )  # fmt: skip
    pointing_rotation: float | None = figure(
        "rotation of the stack relative to the telescope's world coordinates",
        "error of the telescope's position angle", unit="deg", digits=2, default=None,
    )  # fmt: skip
