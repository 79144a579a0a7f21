package datadir

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// trusted are the file systems whose locks are this kernel's alone, by the magic
// number of statfs(2). It is a list of the good ones because an unknown one costs
// only time, and a wrongly trusted one could cost a second owner. Overlay file systems
// are good: their upper layer has to be local.
var trusted = map[uint32]bool{
	unix.EXT4_SUPER_MAGIC:      true, // ext2 and ext3, too
	unix.XFS_SUPER_MAGIC:       true,
	unix.BTRFS_SUPER_MAGIC:     true,
	unix.F2FS_SUPER_MAGIC:      true,
	unix.TMPFS_MAGIC:           true,
	unix.RAMFS_MAGIC:           true,
	unix.OVERLAYFS_SUPER_MAGIC: true,
	0x2fc12fc1:                 true, // ZFS
	0xca451a4e:                 true, // bcachefs
	0x3153464a:                 true, // JFS
}

// remote are names for the likely ones that are not.
var remote = map[uint32]string{
	unix.NFS_SUPER_MAGIC: "NFS",
	unix.SMB_SUPER_MAGIC: "SMB",
	0xff534d42:           "CIFS",
	0xfe534d42:           "SMB2",
	0x65735546:           "FUSE",
	unix.V9FS_MAGIC:      "9P",
	0x00c36400:           "Ceph",
	0x01161970:           "GFS2",
	0x7461636f:           "OCFS2",
	0x0bd00bd0:           "Lustre",
}

// identify returns the lock's name, or why nothing can be proved by it.
func identify(f *os.File) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return "", fmt.Errorf("find out the file system: %w", err)
	}
	if err := judge(uint32(fs.Type)); err != nil { //nolint:gosec // magic numbers have 32 bits
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", fmt.Errorf("identify the file: %w", err)
	}
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", fmt.Errorf("identify this run of the kernel: %w", err)
	}
	return name(strings.TrimSpace(string(boot)), uint64(st.Dev), st.Ino) //nolint:unconvert // 32 bits on some
}

// judge returns why the locks of a file system prove nothing, or nil.
func judge(magic uint32) error {
	if trusted[magic] {
		return nil
	}
	kind := remote[magic]
	if kind == "" {
		kind = fmt.Sprintf("of an unknown kind (%#x)", magic)
	}
	return fmt.Errorf("its file system is %s, whose locks are not the kernel's own: put node.data_dir on a local disk", kind)
}

// name makes one name of what is unique together. Hashed, so that it tells nothing
// else about the machine.
func name(boot string, device, inode uint64) (string, error) {
	if boot == "" {
		return "", errors.New("this run of the kernel has no identity")
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "fairlead data directory lock\n%s\n%d\n%d\n", boot, device, inode))
	return hex.EncodeToString(sum[:]), nil
}
