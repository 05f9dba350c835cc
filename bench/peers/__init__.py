"""What Insula is measured beside: each module installs, starts, and takes away one peer."""
