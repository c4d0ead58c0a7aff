#!/usr/bin/env bash
# Installs the real parts that the tests talk to, from Debian and npm. Starts nothing.
set -euo pipefail
cd "$(dirname "$0")"

packages=(orthanc orthanc-dicomweb default-jre-headless dcmtk dicom3tools pixelmed-apps redis-server rabbitmq-server postgresql nodejs openssl chromium strace sqlite3)
missing=()
for package in "${packages[@]}"; do
  # An image may bring its own node; any other missing package is installed.
  if [ "$package" = nodejs ] && command -v node >/dev/null; then continue; fi
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "Installing for the tests: ${missing[*]}"
  run=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "These packages are missing and this user may not install them: ${missing[*]}" >&2; exit 1; }
    run=(sudo)
  fi
  # The tests start their own servers on loopback; the packages must not start theirs.
  policy=/usr/sbin/policy-rc.d
  made_policy=no
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${run[@]}" tee $policy >/dev/null
    "${run[@]}" chmod +x $policy
    made_policy=yes
  fi
  "${run[@]}" apt-get update -qq
  "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  if [ $made_policy = yes ]; then "${run[@]}" rm -f $policy; fi
fi
npm ci --silent --no-audit --no-fund --ignore-scripts

# OHIF's package holds the built viewer; its own dependencies are those of building it, so the package
# alone is unpacked, after its checksum was compared.
ohif=@ohif/app@3.13.2
checksum=WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==
if [ "$(cat node_modules/ohif/.installed 2>/dev/null)" != "$ohif" ]; then
  mkdir -p node_modules/ohif
  packed=node_modules/ohif/$(npm pack --silent --pack-destination node_modules/ohif "$ohif")
  found=$(openssl dgst -sha512 -binary "$packed" | base64 -w0)
  [ "$found" = "$checksum" ] || { echo "$ohif: expected another checksum, got $found" >&2; exit 1; }
  tar -xzf "$packed" -C node_modules/ohif package/dist
  rm "$packed"
  echo "$ohif" > node_modules/ohif/.installed
fi
