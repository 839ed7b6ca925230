#!/usr/bin/env bash
# What the tests of JavaScript on Node and of the browser page need: npm packages beside them, and Chromium.
# Nothing outside this repository is touched but, as root on Debian, the package chromium.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v npm >/dev/null; then
  echo "install.sh: npm must be installed (Node.js 20 or newer)" >&2
  exit 2
fi
for folder in export/web/node tests/web; do
  ONNXRUNTIME_NODE_INSTALL=skip npm install --prefix "$folder" --no-audit --no-fund --loglevel=error
done
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium
fi
if ! command -v chromium >/dev/null; then
  echo "install.sh: chromium is missing; the tests of the browser page will say that they were left out" >&2
fi
