//! The agent core: the manager core's twin for one node.
