#!/usr/bin/env bash
# Makes FOLDER an arm64 userland with Python, numpy and LiteRT that runs on an emulated Cortex-A76: what --arm takes, and
# what tests/native looks for under MIXNET_TF_ARM64. FOLDER/make -C tflite/native builds tflite/native/classify_arm64, and
# FOLDER/run starts it.
# For Debian 12 on x86; apt-get needs root. Takes about a minute. Usage: arm64.sh FOLDER
set -euo pipefail
folder=$(realpath -m "${1:?usage: arm64.sh FOLDER}")
mkdir -p "$folder"/{lists/partial,debs,root/proc,site,wheels}
apt-get update -qq
apt-get install -y -qq qemu-user gcc gcc-aarch64-linux-gnu pkg-config unzip python3-pip >/dev/null

arm=(-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 "-oDir::State::Lists=$folder/lists")
apt-get "${arm[@]}" update -qq
(cd "$folder/debs" && apt-get "${arm[@]}" download -qq libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g libexpat1 libssl3 \
  libffi8 libbz2-1.0 liblzma5 libuuid1 libcrypt1 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
  libjpeg62-turbo libjpeg62-turbo-dev libpng16-16 libpng-dev zlib1g-dev libcjson1 libcjson-dev)
for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/root"; done

platforms=(--platform manylinux2014_aarch64)
for glibc in 2_17 2_27 2_28; do platforms+=(--platform "manylinux_${glibc}_aarch64"); done
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 "${platforms[@]}" -d "$folder/wheels" \
  ai-edge-litert==2.3.0 numpy==2.2.6
python3 -m pip download -q --no-deps --only-binary=:all: -d "$folder/wheels" flatbuffers typing_extensions tqdm
for wheel in "$folder"/wheels/*.whl; do unzip -q -o "$wheel" -d "$folder/site"; done

# XNNPACK reads /proc/cpuinfo, and QEMU would show it the host's. This one is an Armv8.2 core with dot products.
for core in 0 1; do
  printf '%s\n' "processor : $core" \
    'Features : fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp' \
    'CPU implementer : 0x41' 'CPU architecture: 8' 'CPU variant : 0x4' 'CPU part : 0xd0b' 'CPU revision : 1' ''
done >"$folder/root/proc/cpuinfo"
echo 'Hardware : Qualcomm Technologies, Inc SM8150' >>"$folder/root/proc/cpuinfo"

cat >"$folder/python" <<RUN
#!/bin/sh
export PYTHONPATH=$folder/site PYTHONHOME=$folder/root/usr PYTHONDONTWRITEBYTECODE=1
exec qemu-aarch64 \$QEMU_OPTS -cpu cortex-a76 -L $folder/root $folder/root/usr/bin/python3.11 "\$@"
RUN
cat >"$folder/run" <<RUN
#!/bin/sh
exec qemu-aarch64 -cpu cortex-a76 -L $folder/root "\$@"
RUN
libraries=$folder/root/usr/lib/aarch64-linux-gnu include=$folder/root/usr/include
cat >"$folder/make" <<RUN
#!/bin/sh
export PKG_CONFIG_LIBDIR=$libraries/pkgconfig PKG_CONFIG_SYSROOT_DIR=$folder/root
exec make -B PROGRAM=classify_arm64 CC="aarch64-linux-gnu-gcc -I$include -I$include/aarch64-linux-gnu" \\
  LDFLAGS="-L$libraries -Wl,-rpath-link,$libraries:$folder/root/lib/aarch64-linux-gnu" \\
  LITERT=$folder/site/ai_edge_litert/libLiteRt.so "\$@"
RUN
chmod +x "$folder"/{python,run,make}
"$folder/python" -c 'import platform, numpy; from ai_edge_litert.interpreter import Interpreter; print("ready:", platform.machine())'
