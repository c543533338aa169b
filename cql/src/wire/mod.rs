//! Native protocol frames, v3 to v5.
