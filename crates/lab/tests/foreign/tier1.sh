#!/bin/sh
# tier1.py of the virtual environment $1, with what the guide puts into its compose file.
# The lab adds where spans and log records go.
export OTEL_SERVICE_NAME=tier1-service
export OTEL_TRACES_EXPORTER=otlp_proto_http OTEL_LOGS_EXPORTER=otlp_proto_http
export OTEL_PYTHON_LOG_CORRELATION=true OTEL_PYTHON_LOG_LEVEL=info
# `exec`, so that the signal that ends it comes to it.
exec "$1/bin/opentelemetry-instrument" "$1/bin/python" -B "$(dirname "$0")/tier1.py"
