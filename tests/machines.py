"""Small trees of machines as their kernels show them, for the state before, during and after.

Names of files, rails and zones are those of the boards; clocks and temperatures are plausible
ones of the power mode that is named above each. None was copied from a running board.
"""

from __future__ import annotations

from pathlib import Path

CPU = "sys/devices/system/cpu/cpufreq"
THERMAL = "sys/class/thermal"


def write(root: Path, files: dict[str, str]) -> Path:
    """The tree below `root`, every file with a newline at its end."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    return root


def policy(number: int, governor: str, now: int, least: int, most: int) -> dict[str, str]:
    """A cpufreq policy, kHz."""
    folder = f"{CPU}/policy{number}/scaling_"
    values = {"governor": governor, "cur_freq": now, "min_freq": least, "max_freq": most,
              "available_governors": "conservative schedutil performance"}  # fmt: skip
    return {f"{folder}{name}": str(value) for name, value in values.items()}


def gpu(folder: str, node: str, governor: str, now: int, least: int, most: int) -> dict[str, str]:
    """A devfreq folder, Hz; `node` is its device-tree name, if it has one."""
    base = f"sys/class/devfreq/{folder}/"
    values = {"governor": governor, "cur_freq": now, "min_freq": least, "max_freq": most}
    found = {f"{base}{name}": str(value) for name, value in values.items()}
    return {**found, **({f"{base}device/of_node/name": f"{node}\0"} if node else {})}


def zone(number: int, kind: str, celsius: float, *trips: tuple[str, float]) -> dict[str, str]:
    """A thermal zone with its trip points."""
    base = f"{THERMAL}/thermal_zone{number}/"
    found = {f"{base}type": kind, f"{base}temp": f"{celsius * 1000:.0f}"}
    for k, (what, at) in enumerate(trips):
        found[f"{base}trip_point_{k}_type"] = what
        found[f"{base}trip_point_{k}_temp"] = f"{at * 1000:.0f}"
    return found


def brake(number: int, kind: str, state: int) -> dict[str, str]:
    """A cooling device."""
    base = f"{THERMAL}/cooling_device{number}/"
    return {f"{base}type": kind, f"{base}cur_state": str(state)}


def orin_nano(root: Path) -> Path:
    """Orin Nano 8 GB developer kit, JetPack 6.2 (L4T 36.4.3), mode 25W."""
    return write(root, {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0"
                                       "nvidia,tegra234\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
        "proc/cpuinfo": "processor : 0\nmodel name : ARMv8 Processor rev 1 (v8l)",
        "proc/meminfo": "MemTotal:  7802896 kB\nMemAvailable:  6000000 kB\nNvMapMemUsed: 51200 kB",
        "sys/nvpmodel/q": "NV Power Mode: 25W\n1",
        "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
        **policy(0, "schedutil", 729600, 729600, 1344000),
        **policy(4, "schedutil", 1344000, 729600, 1344000),
        **gpu("17000000.gpu", "gpu", "nvhost_podgov", 306000000, 306000000, 918000000),
        **gpu("15340000.vic", "vic", "userspace", 115200000, 115200000, 435200000),
        **zone(0, "cpu-thermal", 48.5, ("passive", 99), ("critical", 104.5)),
        **zone(1, "cv0-thermal", -256),
        **zone(8, "tj-thermal", 49.5, ("active", 51), ("critical", 104.5)),
        **brake(0, "pwm-fan", 2), **brake(1, "cpufreq-cpu0", 0),
        **brake(2, "gpu-throttle-alert", 0),
        "sys/class/hwmon/hwmon2/name": "pwmfan", "sys/class/hwmon/hwmon2/pwm1": "88",
        "sys/class/hwmon/hwmon3/name": "pwm_tach", "sys/class/hwmon/hwmon3/fan1_input": "2410",
    })  # fmt: skip


def agx_orin(root: Path) -> Path:
    """AGX Orin 64 GB, JetPack 5.1.2 (L4T 35.4.1), mode MAXN, read by root: EMC is told."""
    return write(root, {
        "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0",
        "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref",
        "proc/meminfo": "MemTotal: 64349012 kB\nMemAvailable: 60000000 kB",
        "sys/nvpmodel/q": "NV Power Mode: MAXN\n0",
        "usr/local/cuda/version.json": '{"cuda": {"version": "11.4.19"}}',
        **policy(0, "schedutil", 2201600, 115200, 2201600),
        **policy(4, "schedutil", 1190400, 115200, 2201600),
        **policy(8, "schedutil", 115200, 115200, 2201600),
        **gpu("17000000.ga10b", "ga10b", "nvhost_podgov", 1300500000, 306000000, 1300500000),
        "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000",
        **zone(0, "CPU-therm", 52, ("passive", 99)),
    })  # fmt: skip


def thor(root: Path) -> Path:
    """AGX Thor, JetPack 7.1 (L4T 38.4.0): two GPU clocks, known by their own names."""
    return write(root, {
        "proc/device-tree/compatible": "nvidia,p3971-0089+p3834-0008\0nvidia,tegra264\0",
        "etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 43443517, BOARD: generic",
        "sys/nvpmodel/q": "NV Power Mode: 120W\n1",
        **policy(0, "performance", 2601000, 2601000, 2601000),
        **gpu("gpu-gpc-0", "", "nvhost_podgov", 1575000000, 315000000, 1575000000),
        **gpu("gpu-nvd-0", "", "nvhost_podgov", 1692000000, 315000000, 1692000000),
        "sys/class/devfreq/bwmgr/cur_freq": "4266000000",
        **zone(0, "tj-thermal", 40),
    })  # fmt: skip


def xavier_nx(root: Path) -> Path:
    """Xavier NX, JetPack 4.6.1 (L4T 32.7.1), mode 15W of six cores."""
    return write(root, {
        "proc/device-tree/compatible": "nvidia,p3449-0000+p3668-0000\0nvidia,tegra194\0",
        "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t186ref",
        "sys/nvpmodel/q": "NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2",
        "usr/local/cuda/version.txt": "CUDA Version 10.2.300",
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.8.2.1": "",
        **policy(0, "schedutil", 1190400, 1190400, 1420800),
        **gpu("17000000.gv11b", "gv11b", "nvhost_podgov", 114750000, 114750000, 1109250000),
        **zone(0, "AO-therm", 39), **zone(1, "PMIC-Die", 50), **zone(2, "PMIC-Die", 100),
    })  # fmt: skip


def pi5(root: Path) -> Path:
    """Raspberry Pi 5, its supply once too weak since it was started (bits 16 and 18)."""
    return write(root, {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0",
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        "sys/vcgencmd/get_throttled": "throttled=0x50000",
        "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "50000",
        **policy(0, "ondemand", 2400000, 1500000, 2400000),
        **zone(0, "cpu-thermal", 61.2, ("critical", 110), ("active", 50)),
        **brake(0, "pwm-fan", 1),
    })  # fmt: skip


def virtual(root: Path) -> Path:
    """A virtual machine: it tells its memory and nothing of clocks or heat."""
    return write(root, {"proc/meminfo": "MemTotal: 24684288 kB\nMemAvailable: 22000000 kB"})
