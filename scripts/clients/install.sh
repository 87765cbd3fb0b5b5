#!/usr/bin/env bash
# Installs what the suites of real clients need: Debian's packages (as root), kazoo in a virtual environment and
# node-zookeeper-client, both below the directory that is given. What is there already is not installed again.
set -euo pipefail
work=${1:?the directory for what is not installed for the whole system}
mkdir -p "$work"
work=$(cd "$work" && pwd)
cd "$(dirname "$0")"

packages=(
    zookeeper libzookeeper-java libzookeeper-mt-dev libcurator-client-java libcurator-framework-java
    libcurator-recipes-java libcurator-discovery-java libguava-java libslf4j-java libjackson2-databind-java
    python3-venv gcc libc6-dev curl
)
have() {
    command -v "$1" >/dev/null
}
have javac || packages+=(default-jdk-headless)
have node || packages+=(nodejs)
have npm || packages+=(npm)
have python3 || packages+=(python3)
missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' ||
        missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || { echo "clients: not root, and not installed: ${missing[*]}" >&2; exit 1; }
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet
    apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
fi

if ! cmp -s python/requirements.txt "$work/venv/requirements.txt"; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --requirement python/requirements.txt
    cp python/requirements.txt "$work/venv/"
fi

if ! cmp -s node/package-lock.json "$work/node/node_modules/package-lock.json"; then
    mkdir -p "$work/node"
    cp node/package.json node/package-lock.json "$work/node/"
    (cd "$work/node" && npm ci --no-audit --no-fund --loglevel=error)
    cp node/package-lock.json "$work/node/node_modules/"
fi
