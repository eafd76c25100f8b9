--- Event: the bytes of TensorBoard's event files. A record is its length, the masked CRC-32C of that, the message, and
-- the masked CRC-32C of the message, little-endian (tensorflow/core/lib/io/record_writer.cc); the messages are protocol
-- buffers: Event of event.proto, Summary of summary.proto, HistogramProto of histogram.proto.
-- @module gls.log.event
local event = {}

-- ---- checksums ----

-- Castagnoli's polynomial, bits reversed.
local table_of_crc = {}
for byte = 0, 255 do
  local crc = byte
  for _ = 1, 8 do crc = crc & 1 == 1 and crc >> 1 ~ 0x82F63B78 or crc >> 1 end
  table_of_crc[byte] = crc
end

--- CRC-32C of a text.
function event.crc32c(text)
  local crc = 0xFFFFFFFF
  for from = 1, #text, 4096 do -- as many values as a call may have
    for _, byte in ipairs { text:byte(from, from + 4095) } do crc = table_of_crc[(crc ~ byte) & 0xFF] ~ crc >> 8 end
  end
  return crc ~ 0xFFFFFFFF
end

local function masked(text)
  local crc = event.crc32c(text)
  return (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF
end

--- A message as a record.
function event.record(message)
  local length = string.pack("<I8", #message)
  return length .. string.pack("<I4", masked(length)) .. message .. string.pack("<I4", masked(message))
end

-- ---- protocol buffers ----

local VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5

local function varint(value)
  local parts = {}
  repeat
    local low = value & 0x7F
    value = value >> 7
    parts[#parts + 1] = string.char(value ~= 0 and low | 0x80 or low)
  until value == 0
  return table.concat(parts)
end

local function field(number, kind, content) return varint(number << 3 | kind) .. content end
local function whole(number, value) return field(number, VARINT, varint(value)) end
local function double(number, value) -- what is 0 is left out
  return value ~= 0 and field(number, DOUBLE, string.pack("<d", value)) or ""
end
local function float(number, value) return field(number, FLOAT, string.pack("<f", value)) end
local function bytes(number, text) return field(number, BYTES, varint(#text) .. text) end
local function doubles(number, values)
  local parts = {}
  for i, value in ipairs(values) do parts[i] = string.pack("<d", value) end
  return bytes(number, table.concat(parts))
end

local function message(time, step, content)
  return double(1, time) .. (step ~= 0 and whole(2, step) or "") .. content
end

--- The first message of a file.
function event.version(time) return message(time, 0, bytes(3, "brain.Event:2")) end

--- What is read after it counts in place of what was written before for this step and later ones.
function event.restart(time, step) return message(time, step, bytes(7, whole(1, 1))) end

--- A message with values, as the functions below give them.
function event.summary(time, step, values)
  local parts = {}
  for i, value in ipairs(values) do parts[i] = bytes(1, value) end
  return message(time, step, bytes(5, table.concat(parts)))
end

function event.scalar(tag, value) return bytes(1, tag) .. float(2, value) end

--- `histogram`: min, max, count, sum, squares; limits (upper ends of the buckets), counts.
function event.histogram(tag, histogram)
  return bytes(1, tag) .. bytes(5, double(1, histogram.min) .. double(2, histogram.max) .. double(3, histogram.count)
    .. double(4, histogram.sum) .. double(5, histogram.squares) .. doubles(6, histogram.limits)
    .. doubles(7, histogram.counts))
end

--- `png`: the bytes of a PNG file.
function event.image(tag, png)
  local width, height, _, kind = string.unpack(">I4I4BB", png, 17)
  local channels = ({ [0] = 1, [2] = 3, [4] = 2, [6] = 4 })[kind]
  return bytes(1, tag) .. bytes(4, whole(1, height) .. whole(2, width) .. whole(3, channels) .. bytes(4, png))
end

return event
