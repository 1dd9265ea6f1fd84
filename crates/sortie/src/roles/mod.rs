//! The roles of a control plane: each makes what it is from the configuration.

pub(crate) mod api;
pub(crate) mod dispatch;
pub(crate) mod gateway;
pub(crate) mod logs;
pub(crate) mod matchmaker;
pub(crate) mod metrics;
