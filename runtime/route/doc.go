// Package route decides where a message goes: by conditions in the Common Expression
// Language (CEL, https://cel.dev) over its location, adapter and properties.
//
// A decision is a function of the message alone: the same at every attempt and on
// every node. So there is no clock in the language, and no state. Conditions are
// compiled and type-checked once; the work for one message is bounded.
package route
