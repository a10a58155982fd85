/// \namespace tokennorm
/// The library. What is below tokennorm::detail and tokennorm::kernels may change at any time.

/// \namespace tokennorm::families
/// The families of models whose checkpoints have names of their own.
