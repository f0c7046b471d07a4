-- What the scripts that look at the list of origins share: KEYS[1] is the list, ARGV[1] what the key of a registration
-- begins with. Whatever others put into the store, reading it does not fail.

local base = ARGV[1]

-- What a command reads; nothing if what is there is of another type.
local function read(...)
  local value = redis.pcall(...)
  if type(value) == 'table' and value.err then
    if not value.err:find('WRONGTYPE', 1, true) then error(value.err, 0) end
    return nil
  end
  return value or nil
end

-- The value in a JSON text; nothing if it is none.
local function decode(text)
  local good, value = pcall(cjson.decode, text)
  return good and type(value) == 'table' and value or nil
end

-- Whose life a registration is, if it says so.
local function server_of(text)
  local server = (decode(text) or {}).server_id
  return type(server) == 'string' and server or nil
end

-- Whose registration a key names, also without our prefix, as others may have written it.
local function id_of(key)
  if type(key) ~= 'string' then return nil end
  if key:sub(1, #base) == base then return key:sub(#base + 1):match('^.+$') end
  return key:match('^srs%-proxy%-server:(.+)$')
end

-- The keys of all registrations; nothing if there is no list.
local function read_list()
  local text = read('GET', KEYS[1])
  local list = text and text:match('^%s*%[') and decode(text)
  if not list then return nil end
  local keys = {}
  for _, key in ipairs(list) do
    if id_of(key) then table.insert(keys, key) end
  end
  return keys
end

local function write_list(keys)
  -- An empty table would be written as an object.
  redis.call('SET', KEYS[1], #keys > 0 and cjson.encode(keys) or '[]')
end

-- Milliseconds, by the store's own clock.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The server of this origin lives another life: nobody shall give this one back for so long.
local function end_life(marks, id, life)
  redis.call('DEL', base .. id)
  redis.pcall('HSET', marks, 'gone:' .. id, string.format('%.0f 0', now() + life))
end
