# certnet in a container that needs no network when it runs:
#
#   docker build -t certnet .
#   docker run --rm --network none -v "$PWD/out:/out" --user "$(id -u):$(id -g)" certnet            # the demo, into out/
#   docker run --rm --network none -v "$PWD:/data" -w /data certnet certify model.npz
#
# The first stage makes or fetches a wheel of everything; the second one installs from these alone.
FROM python:3.12-slim AS wheels
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY certnet certnet
RUN python -m pip wheel --no-cache-dir --wheel-dir /wheels ".[plot,onnx,qp]"

FROM python:3.12-slim
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels "certnet[plot,onnx,qp]" \
    && useradd --create-home certnet \
    && install -d -o certnet -g certnet /var/cache/certnet /out
# one BLAS thread: faster at the sizes here
ENV OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_CACHE_DIR=/var/cache/certnet MPLCONFIGDIR=/tmp/matplotlib
USER certnet
# compiles the kernels into the image; on another processor they are compiled again, where the folder can be written
RUN --network=none certnet demo --hidden 10 --out /tmp/demo && rm -r /tmp/demo && certnet doctor
ENTRYPOINT ["certnet"]
CMD ["demo", "--out", "/out", "--force"]
