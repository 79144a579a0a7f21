package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// receiveProperties are the endpoint properties of a receive location.
type receiveProperties struct {
	files.Selection
	files.Taking
	Directory string `json:"directory" jsonschema:"required,minLength=1" jsonschema_description:"Directory to read, as an absolute path that means the same on every node that may own the host."`
	Marker    string `json:"marker,omitempty" jsonschema_description:"Name of a file that must be in directory; without it the directory counts as out of reach. A guard against a file system that is not mounted: an empty mount point looks like a directory whose files are all gone."`
}

// sendProperties are the endpoint properties of a send port.
type sendProperties struct {
	files.Placement
	Directory sdk.Template `json:"directory" jsonschema:"required,minLength=1" jsonschema_description:"Directory to write to, as an absolute path that means the same on every node that may own the host. May use {{now:2006/01}}, {{ftp.name}} and other context properties, whose values fill one element and cannot lead elsewhere."`
	Name      sdk.Template `json:"name" jsonschema:"default={{fairlead.id}}" jsonschema_description:"Name of the file. May use {{fairlead.id}}, {{ftp.name}}, {{now:20060102T150405Z}} and other context properties; now is the time at which the message was taken in. A name with {{fairlead.id}} lets the port tell best whether a message has arrived."`
	Marker    string       `json:"marker,omitempty" jsonschema_description:"Name of a file that must be in directory (with placeholders: in the part before the first one); without it the directory counts as out of reach. A guard against a file system that is not mounted: an empty mount point looks like a directory whose files are all gone."`
}

var (
	_ sdk.Properties = receiveProperties{}
	_ sdk.Properties = sendProperties{}
)

func problem(property, format string, args ...any) error {
	return &sdk.PropertyError{Property: property, Problem: fmt.Sprintf(format, args...)}
}

// Validate finds what the schema cannot say.
func (p receiveProperties) Validate() error {
	errs := slices.Concat(p.Selection.Problems(), p.Taking.Problems(p.Directory))
	errs = append(errs, checkDirectory(p.Directory), checkMarker(p.Marker))
	return errors.Join(errs...)
}

// Validate finds what the schema cannot say.
func (p sendProperties) Validate() error {
	errs := append(p.Placement.Problems(), checkDirectory(p.Directory.String()), files.DirectoryProblem("directory", p.Directory), checkMarker(p.Marker))
	if strings.ContainsAny(p.Name.String(), "/\\\x00") {
		errs = append(errs, problem("name", "%q contains a slash, a backslash or a NUL; name the directory under directory", p.Name))
	}
	if strings.HasPrefix(p.Name.String(), files.TemporaryPrefix) {
		errs = append(errs, problem("name", "begins with %s, which marks files that are being written", files.TemporaryPrefix))
	}
	if p.Marker != "" && p.CreateDirectories && !p.Directory.Varies() {
		errs = append(errs, problem("create_directories", "has no effect with marker, which must be in a directory that is there; take one of them away"))
	}
	return errors.Join(errs...)
}

func checkDirectory(directory string) error {
	switch {
	case !filepath.IsAbs(directory):
		return problem("directory", "%q is not an absolute path; a relative one would mean another place on every node", directory)
	case strings.ContainsRune(directory, 0):
		return problem("directory", "contains a NUL")
	}
	return nil
}

func checkMarker(name string) error {
	if strings.ContainsAny(name, "/\\\x00") || name == "." || name == ".." {
		return problem("marker", "%q is not the name of a file in directory", name)
	}
	return nil
}
