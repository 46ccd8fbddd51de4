ARG PYTHON=python:3.11.15-slim-trixie
FROM ${PYTHON} AS build
WORKDIR /source
RUN python -m venv --without-pip /opt/nirflow
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY calib_store calib_store
COPY deployments deployments
COPY flows flows
COPY imaging imaging
COPY nirflow nirflow
COPY tasks tasks
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/nirflow/bin/python --disable-pip-version-check install --constraint constraints.txt '.[s3,dask,catalogues]'

FROM ${PYTHON}
LABEL org.opencontainers.image.title="nirflow" \
      org.opencontainers.image.description="Near-infrared imaging reduction that runs itself" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.base.name="python:3.11.15-slim-trixie"
# Nothing is installed any more from here on. A volume takes its owner from the folder that it is put over.
RUN pip uninstall --yes --quiet --root-user-action=ignore setuptools wheel pip \
    && groupadd --gid 10001 nirflow \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin nirflow \
    && install --directory --owner=nirflow --group=nirflow /data /data/objects /data/scratch /nights
COPY --from=build /opt/nirflow /opt/nirflow
# HOME is for caches of libraries; what has to last is in volumes.
ENV PATH=/opt/nirflow/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/data/numba \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1
USER 10001:10001
WORKDIR /opt/nirflow
HEALTHCHECK NONE
CMD ["nirflow", "--help"]
