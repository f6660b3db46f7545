# frozen_string_literal: true

module Kino
  # The settings of a server, checked. `nil` and `false` switch a limit off.
  class Options
    # What a value must be, and how that is said.
    Kind = Data.define(:description, :check) do
      def fits?(value) = check.call(value)
    end

    # A setting's kind, its default, and whether nil and false mean none.
    Setting = Data.define(:kind, :default, :off)

    # The numbers of `enum kino_dispatch`.
    DISPATCHES = { queue: 1, lanes: 3, inline: 2 }.freeze
    # How many workers a loop feeds.
    WORKERS_PER_LOOP = 4

    text = Kind.new("a String that is not empty", ->(v) { v.is_a?(String) && !v.empty? })
    port = Kind.new("an Integer, 0 .. 65535", ->(v) { v.is_a?(Integer) && v.between?(0, 65_535) })
    count = Kind.new("an Integer, 1 or more", ->(v) { v.is_a?(Integer) && v.positive? })
    number = ->(v) { v.is_a?(Numeric) && v.real? && v.to_f.finite? }
    seconds = Kind.new("a number of seconds above 0", ->(v) { number[v] && v.positive? })
    patience = Kind.new("a number of seconds, 0 or more", ->(v) { number[v] && !v.negative? })
    one_of = lambda do |*values|
      Kind.new("one of #{values.map(&:inspect).join(', ')}", ->(v) { values.include?(v) })
    end

    # By name. Where the default is nil and off is false, it depends on the others.
    SETTINGS = {
      bind: Setting.new(text, "127.0.0.1", false),
      port: Setting.new(port, 0, false),
      workers: Setting.new(count, nil, false),
      threads: Setting.new(count, nil, false),
      mode: Setting.new(one_of[:auto, :ractor, :threaded], :auto, false),
      dispatch: Setting.new(one_of[*DISPATCHES.keys], :queue, false),
      loops: Setting.new(count, nil, false),
      queue_depth: Setting.new(count, 1024, false),
      queue_timeout: Setting.new(seconds, 5.0, true),
      shutdown_timeout: Setting.new(patience, 30, true),
      max_connections: Setting.new(count, :default, true),
      max_body_size: Setting.new(count, 50 * 1024 * 1024, true)
    }.freeze

    attr_reader(*SETTINGS.keys)

    # @param given [Hash{Symbol => Object}]
    # @raise [ArgumentError] naming the setting that is unknown or cannot be so
    def initialize(**given)
      unknown = given.keys - SETTINGS.keys
      raise ArgumentError, "unknown setting #{unknown.first}" unless unknown.empty?

      SETTINGS.each do |name, setting|
        instance_variable_set(:"@#{name}", read(name, setting, given))
      end
    end

    # @return [Boolean]
    def inline? = dispatch == :inline

    # Settle what depends on the mode.
    #
    # @param mode [:ractor, :threaded]
    # @return [Options]
    def for_mode(mode)
      dup.tap { _1.resolve(mode) }
    end

    # @return [Hash{Symbol => Integer, nil}] for Native::Server; nil is off
    def native
      settings = {
        dispatch: DISPATCHES.fetch(dispatch), loops:, queue_depth:, max_body_bytes: max_body_size,
        queue_timeout_ms: queue_timeout && (queue_timeout * 1000).ceil
      }
      settings[:max_connections] = max_connections unless max_connections == :default
      settings
    end

    protected

    def resolve(mode)
      @mode = mode
      @workers ||= Kino.available_parallelism
      @threads ||= mode == :ractor ? 1 : 3
      takers = workers * threads
      raise ArgumentError, "loops is for :queue and :lanes; inline, each thread has one" if inline? && loops

      @loops ||= inline? ? takers : takers.ceildiv(WORKERS_PER_LOOP)
    end

    private

    def read(name, setting, given)
      value = given.fetch(name) { return setting.default }
      return if setting.off && !value
      return setting.default if value.nil? && setting.default.nil?
      return value if setting.kind.fits?(value)

      raise ArgumentError, "#{name} is #{value.inspect}, but must be #{setting.kind.description}" \
                           "#{', or nil for none' if setting.off}"
    end
  end
end
