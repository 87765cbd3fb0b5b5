#!/bin/sh
# Installs etcd on Debian and Ubuntu, for the chaos suite that compares roost with it. Run as root. The server is not
# started. Without it the suite leaves it out.
set -eu
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends etcd-server
