package bootstrap

// Goldens are one bootstrap of each kind.
var Goldens = goldens
