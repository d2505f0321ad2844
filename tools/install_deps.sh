#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs the Debian packages that are missing: install_deps.sh [PACKAGE...]
# Without arguments, what building and testing needs. Does nothing where nothing is missing.
set -euo pipefail

packages=("$@")
if [ ${#packages[@]} -eq 0 ]; then
    packages=(cmake ninja-build g++ ccache libboost-dev libfmt-dev catch2 pkg-config python3
        libpng-dev nlohmann-json3-dev)
fi

command -v dpkg-query >/dev/null || {
    echo "this is no Debian; install by hand: ${packages[*]}"
    exit 0
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# A newer Boost than the system's default does as well; and so does a program from elsewhere.
present() {
    case $1 in
    libboost-dev) compgen -G '/usr/include/boost/version.hpp' >/dev/null ;;
    cmake | ccache | pkg-config | python3) command -v "$1" >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    *) installed "$1" ;;
    esac
}

missing=()
for package in "${packages[@]}"; do
    present "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }

# Boost 1.81 where Debian has it beside its default.
prefer_newer() {
    for i in "${!missing[@]}"; do
        if [ "${missing[i]}" = libboost-dev ] && [ -n "$(apt-cache show --no-all-versions libboost1.81-dev 2>/dev/null)" ]; then
            missing[i]=libboost1.81-dev
        fi
    done
}

echo "installing: ${missing[*]}"
prefer_newer
if ! apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
    apt_get update
    prefer_newer
    apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null
fi
