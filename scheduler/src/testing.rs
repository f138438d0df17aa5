//! Values for the tests of this package.

use scheduler_core::settings::Settings;

/// A configuration without nodes and partitions.
pub(crate) fn settings() -> Settings {
    Settings { dynamic_nodes: true, ..Settings::named("test") }
}
