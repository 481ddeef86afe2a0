package drivertest

// javaPartition returns the partition that Java's client chooses for a key among n.
func javaPartition(key []byte, n int32) int32 { return (murmur2(key) & 0x7fffffff) % n }

// murmur2 is the hash of Java's client.
func murmur2(key []byte) int32 {
	const mul = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= mul
		k ^= k >> 24
		k *= mul
		h = h*mul ^ k
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(key[0])) * mul
	}
	h ^= h >> 13
	h *= mul
	h ^= h >> 15
	return int32(h)
}
