# frozen_string_literal: true

module Kino
  # Tells what keeps an app from being shared among Ractors, without freezing anything: an attempt of
  # Ractor.make_shareable that fails leaves half of an app frozen.
  class Shareability
    # What stands in an object's way to being shared.
    #
    # @return [String, nil] the first blocker: the path to it and what it is
    def self.blocker(object) = new.blocker(object, "the app")

    # What a worker could not read of the class or module that the app is: instance variables of its
    # own that cannot be shared as they are.
    #
    # @return [String, nil]
    def self.class_state(app)
      return unless app.is_a?(Module)

      chain = app.is_a?(Class) ? app.ancestors.grep(Class) - [Object, BasicObject] : [app]
      chain.each do |owner|
        owner.instance_variables.each do |name|
          value = owner.instance_variable_get(name)
          return "#{owner}.#{name} (#{value.class})" unless Ractor.shareable?(value)
        end
      end
      nil
    end

    # Share the app among Ractors; it is frozen by that.
    #
    # @return [Object] the app
    # @raise [UnshareableAppError]
    def self.share(app)
      found = blocker(app)
      raise UnshareableAppError, explain(found) if found

      Ractor.make_shareable(app)
    rescue Ractor::Error, ArgumentError, FrozenError => e
      raise UnshareableAppError, explain(e.message)
    end

    def self.explain(blocker)
      "the app cannot be shared among Ractors: #{blocker}. Make it a module or a class with a " \
        "method `call` that captures nothing, or use mode: :threaded"
    end
    private_class_method :explain

    def initialize
      @seen = {}.compare_by_identity
    end

    # @private
    def blocker(object, path)
      return if @seen[object] || Ractor.shareable?(object)

      @seen[object] = true
      case object
      when Proc then proc_blocker(object, path)
      when Method then method_blocker(object, path)
      else
        return "#{path} is a #{object.class}" unless Native.freezable?(object)

        first_blocker(object, path)
      end
    end

    private

    def first_blocker(object, path)
      each_part(object, path) do |part, part_path|
        found = blocker(part, part_path)
        return found if found
      end
      nil
    end

    def each_part(object, path, &)
      object.instance_variables.each { yield object.instance_variable_get(_1), "#{path}.#{_1}" }
      case object
      when Hash then each_of_hash(object, path, &)
      when Array, Set then object.each_with_index { |part, i| yield part, "#{path}[#{i}]" }
      when Struct then object.each_pair { |name, part| yield part, "#{path}.#{name}" }
      when Data then object.to_h.each { |name, part| yield part, "#{path}.#{name}" }
      when Range then [object.begin, object.end].each { yield _1, "an end of #{path}" }
      end
    end

    def each_of_hash(hash, path)
      yield hash.default_proc, "the default block of #{path}"
      yield hash.default, "the default of #{path}" unless hash.default_proc
      hash.each do |key, value|
        yield key, "a key of #{path}"
        yield value, "#{path}[#{key.inspect}]"
      end
    end

    # A copy is tried, so the block itself stays as it is.
    def proc_blocker(block, path)
      Ractor.make_shareable(block.clone)
      nil
    rescue Ractor::Error, ArgumentError, RuntimeError => e
      "#{path} is a block#{" (#{block.source_location.join(':')})" if block.source_location} " \
        "#{proc_reason(block, e.message)}"
    end

    def proc_reason(block, message)
      name = message[/variable [`'](\w+)'/, 1]
      if name && message.include?("unshareable")
        "that captures the variable #{name} (#{block.binding.local_variable_get(name).class})"
      elsif !Ractor.shareable?(block.binding.receiver)
        "whose self is a #{block.binding.receiver.class}"
      else
        "of which Ruby says: #{message}"
      end
    end

    # Ruby 4.0 shares a method whose receiver is shared; 3.x shares none.
    def method_blocker(method, path)
      return "#{path} is a Method" if RUBY_VERSION < "4"

      "#{path} is a Method of a #{method.receiver.class}" unless Ractor.shareable?(method.receiver)
    end
  end
end
