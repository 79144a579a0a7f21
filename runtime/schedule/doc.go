// Package schedule says when a source is looked at and when a port sends: windows of
// the day, and cron expressions, both on the clock of a time zone.
//
// Clocks are put forward and back. A window follows the clock on the wall: an hour
// that is left out in spring is not there to be in it, and one that comes twice in
// autumn is in it twice. A cron expression that names hours runs exactly once on such
// a day: when its time is left out, at the moment when the clock jumps; when its time
// comes twice, the first time. One that runs in every hour follows the time that
// passes.
package schedule
