//! One file for each verb: its arguments, its help, and what it does.

pub(crate) mod attach;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod download;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod node;
pub(crate) mod pause;
pub(crate) mod priority;
pub(crate) mod rename;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod stop;
pub(crate) mod throttle;
pub(crate) mod top;
pub(crate) mod unclaimed;
pub(crate) mod up;
pub(crate) mod why;
