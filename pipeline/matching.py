"""What the library decides by, as the settings have it: bits, calibration, limits and policy."""

from matcher.bits import Bits, BitsError, LearnedBits, bits_named
from matcher.evidence import FILTERS, Calibration, CalibrationError, shipped_calibration
from matcher.policy import Policy
from pipeline.assembly import AssemblyLimits
from pipeline.options import ConfigError, Settings

SHIPPED_BITS = ("learned64", "gradient64")


def load_bits(settings: Settings) -> Bits:
    """Give the bits that the settings name, or those of their file of filters.

    Raises:
        ConfigError: the file cannot be read, or gives itself out for bits that ship.

    """
    if settings.filters is None:
        return bits_named(settings.bits)
    try:
        bits = LearnedBits.from_bytes(settings.filters.read_bytes())
    except (BitsError, OSError) as error:
        raise ConfigError(f"setting filters = {settings.filters} cannot be used: {error}") from error
    # Names tell which calibration belongs to which bits, so nobody else may have that of what ships.
    if bits.name in SHIPPED_BITS:
        raise ConfigError(f"filters {settings.filters} must have a name of their own: {bits.name} are bits that ship")
    return bits


def load_calibration(settings: Settings) -> Calibration:
    """Read the calibration that the settings name, or the one that ships for their bits.

    Raises:
        ConfigError: it cannot be read, or was measured with other bits.

    """
    loaded = load_bits(settings)
    bits = loaded.name
    try:
        if settings.calibration is None:
            return shipped_calibration(bits)
        calibration = Calibration.from_bytes(settings.calibration.read_bytes())
    except (CalibrationError, OSError) as error:
        name = "none given" if settings.calibration is None else settings.calibration
        raise ConfigError(f"setting calibration ({name}) cannot be used: {error}") from error
    if calibration.bits != bits:
        raise ConfigError(f"calibration {settings.calibration} was measured with bits {calibration.bits}, not {bits}")
    # Two files of filters may have one name.
    if isinstance(loaded, LearnedBits) and settings.filters is not None:
        measured_with = calibration.provenance.get(FILTERS)
        if measured_with != loaded.digest:
            raise ConfigError(
                f"calibration {settings.calibration} was measured with other filters named {bits}"
                f" ({measured_with or 'it does not say which'}) than those of {settings.filters} ({loaded.digest})"
            )
    return calibration


def limits_of(settings: Settings) -> AssemblyLimits:
    """Give the part of the settings that bounds the assembly."""
    return AssemblyLimits(
        reorder_us=settings.reorder_ms * 1000,
        window_us=int(settings.window_s * 1e6),
        timeout_us=int(settings.request_timeout_s * 1e6),
        max_clock_skew_us=int(settings.max_clock_skew_s * 1e6),
        max_open=settings.max_open_requests,
        household_requests_per_minute=settings.household_requests_per_minute,
        shards=settings.shards,
    )


def policy_of(settings: Settings) -> Policy:
    """Give the part of the settings that the library decides by."""
    return Policy(
        window_us=int(settings.window_s * 1e6),
        window_requests=settings.window_requests,
        partners=settings.partners,
        false_ignore_budget=settings.false_ignore_budget,
        budget_concurrency=settings.budget_concurrency,
        airing_share=settings.airing_share,
        catalogue_entries=settings.catalogue_entries,
        catalogue_ttl_us=int(settings.catalogue_ttl_s * 1e6),
        discovery_delay_us=settings.discovery_delay_ms * 1000,
    )
