package main

import (
	"fmt"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// setAttributes gives the upload its mode and its time, before the rename.
func (k *sink) setAttributes(c *session, m *sdk.Message, path string) error {
	if err := k.setMode(c, path); err != nil {
		return err
	}
	t, ok := k.props.TimeFor(m)
	if !ok {
		return nil
	}
	done, err := k.setTime(c, path, t)
	if err == nil && !done {
		k.noTimes.Do(func() {
			k.env.Log.Warn("the server lets nobody set the time of a file; files are sent without that of their source")
		})
	}
	return err
}

func (k *sink) setMode(c *session, path string) error {
	mode, ok := k.props.FileMode()
	if !ok {
		return nil
	}
	if _, _, err := c.command("SITE CHMOD %03o %s", mode, path); err != nil {
		return fmt.Errorf("set mode %s: %w; if the server has no SITE CHMOD, take mode away", k.props.Mode, err)
	}
	return nil
}

// setTime tries the commands in the order in which they say what they mean. The old way
// to set by MDTM is asked for last: FEAT names it also where it only reads.
func (k *sink) setTime(c *session, path string, t time.Time) (done bool, err error) {
	offered, err := k.features.of(c)
	if err != nil {
		return false, err
	}
	stamp := t.UTC().Format("20060102150405")
	for _, way := range []struct {
		feature, command string
	}{
		{"MFMT", "MFMT " + stamp + " " + path},
		{"SITE UTIME", "SITE UTIME " + stamp + " " + path},
		{"MDTM", "MDTM " + stamp + " " + path},
	} {
		if !offered.has(way.feature) {
			continue
		}
		_, _, err := c.command("%s", way.command)
		if err == nil || !isRefusal(err) {
			return err == nil, err
		}
	}
	return false, nil
}
