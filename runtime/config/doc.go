// Package config reads node files and deployment files. It answers for three
// things: that what it returns is complete and valid, that nothing in a file is
// ignored, and that whatever is wrong is said all at once, each finding with its
// place in the file, what is wrong there and what would be right.
//
// A file is YAML, TOML or JSON by its extension. It is parsed once, into a tree
// that knows where everything stands; the layers (defaults, file, environment,
// flags, overrides) are put together by koanf; the result is checked against the
// JSON Schema that is generated from the Go types, then by the rules a schema
// cannot say.
//
// Values of secrets never appear in a finding or an error.
//
// What it leaves to others: opening certificates, reaching servers, and every
// question about the running cluster. What the environment knows (adapters,
// nodes) is handed in as [Facts].
package config
