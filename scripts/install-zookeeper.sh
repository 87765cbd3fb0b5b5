#!/bin/sh
# Installs ZooKeeper and a Java for it on Debian and Ubuntu, for the tests that compare roost with it. Run as root. The
# server is not started. Without it those tests say that they are skipped.
set -eu
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends zookeeper
